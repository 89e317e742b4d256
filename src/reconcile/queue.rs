//! Which server is looked at next.
//!
//! A pure keyed queue: one entry for each server, the earliest instant wins, wakes merge, and a server that is being looked at is not looked
//! at twice at once: a wake that comes meanwhile takes effect when it is done. Servers that share their destinations share a lane, and a
//! lane has a limit, so that those of a destination that hangs never take the place of others.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    names::{DestinationName, ServerName},
    time::Timestamp,
};

/// Servers with the same destinations.
pub(super) type Lane = BTreeSet<DestinationName>;

/// The servers, and when each is looked at.
#[derive(Debug)]
pub(super) struct Queue {
    lane_max: usize,
    servers: BTreeMap<ServerName, Entry>,
    running: BTreeMap<Lane, usize>,
}

#[derive(Debug)]
struct Entry {
    at: Timestamp,
    lane: Lane,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It waits for its instant.
    Waiting,
    /// It is being looked at.
    Running,
    /// It is being looked at, and no longer configured.
    Leaving,
}

impl Queue {
    /// A queue that looks at so many servers of one lane at once.
    pub(super) fn new(lane_max: usize) -> Self {
        Self {
            lane_max,
            servers: BTreeMap::new(),
            running: BTreeMap::new(),
        }
    }

    /// Takes up exactly these servers, each to be looked at now.
    pub(super) fn set(&mut self, servers: BTreeMap<ServerName, Lane>, now: Timestamp) {
        self.servers.retain(|name, entry| {
            let stays = servers.contains_key(name);
            if !stays && entry.state != State::Waiting {
                entry.state = State::Leaving;
                return true;
            }
            stays
        });
        for (name, lane) in servers {
            match self.servers.get_mut(&name) {
                // The lane of what runs stays as it was counted.
                Some(entry) if entry.state != State::Waiting => {
                    entry.at = now;
                    entry.state = State::Running;
                }
                Some(entry) => {
                    entry.at = now;
                    entry.lane = lane;
                }
                None => {
                    let state = State::Waiting;
                    let at = now;
                    self.servers.insert(name, Entry { at, lane, state });
                }
            }
        }
    }

    /// Looks at a server at this instant, if not before.
    pub(super) fn wake(&mut self, server: &ServerName, at: Timestamp) {
        if let Some(entry) = self.servers.get_mut(server) {
            entry.at = entry.at.min(at);
        }
    }

    /// Looks at all servers at this instant, if not before.
    pub(super) fn wake_all(&mut self, at: Timestamp) {
        for entry in self.servers.values_mut() {
            entry.at = entry.at.min(at);
        }
    }

    /// The server that is to be looked at now, the longest overdue first. It counts as being looked at until it is [`done`](Self::done).
    pub(super) fn next(&mut self, now: Timestamp) -> Option<ServerName> {
        let is_free = |lane: &Lane| self.running.get(lane).copied().unwrap_or(0) < self.lane_max;
        let due = self.servers.iter().filter(|(_, entry)| {
            entry.state == State::Waiting && entry.at <= now && is_free(&entry.lane)
        });
        let (name, _) = due.min_by_key(|(_, entry)| entry.at)?;
        let name = name.clone();
        let entry = self.servers.get_mut(&name).expect("it was found");
        entry.state = State::Running;
        entry.at = Timestamp::MAX;
        *self.running.entry(entry.lane.clone()).or_default() += 1;
        Some(name)
    }

    /// A server has been looked at; the next time is at this instant, unless it was woken meanwhile for an earlier one.
    pub(super) fn done(&mut self, server: &ServerName, next: Timestamp) {
        let Some(entry) = self.servers.get_mut(server) else {
            return;
        };
        if let Some(count) = self.running.get_mut(&entry.lane) {
            *count = count.saturating_sub(1);
        }
        if entry.state == State::Leaving {
            self.servers.remove(server);
            return;
        }
        entry.state = State::Waiting;
        entry.at = entry.at.min(next);
    }

    /// When the next server is to be looked at, if none is now.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        let waiting = self.servers.values().filter(|entry| {
            let running = self.running.get(&entry.lane).copied().unwrap_or(0);
            entry.state == State::Waiting && running < self.lane_max
        });
        waiting.map(|entry| entry.at).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn name(text: &str) -> ServerName {
        ServerName::parse(text).expect("a name")
    }

    fn second(number: u64) -> Timestamp {
        Timestamp::from_unix_seconds(0).expect("an instant") + Duration::from_secs(number)
    }

    /// `a:x b:x c:y`: servers and their destinations.
    fn servers(text: &str) -> BTreeMap<ServerName, Lane> {
        let each = text.split_whitespace().map(|word| {
            let (server, lane) = word.split_once(':').expect("a lane");
            let lane = DestinationName::parse(lane).expect("a name");
            (name(server), BTreeSet::from([lane]))
        });
        each.collect()
    }

    fn queue(text: &str) -> Queue {
        let mut queue = Queue::new(2);
        queue.set(servers(text), second(0));
        queue
    }

    /// Everything that may be looked at now.
    fn all(queue: &mut Queue, at: u64) -> String {
        let next = std::iter::from_fn(|| queue.next(second(at)));
        next.map(|name| name.to_string())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn the_longest_overdue_comes_first_and_never_twice_at_once() {
        let mut queue = queue("a:x b:y c:z");
        assert_eq!(all(&mut queue, 0), "a b c");
        queue.done(&name("a"), second(30));
        queue.done(&name("b"), second(10));
        assert_eq!(queue.next_at(), Some(second(10)));
        assert_eq!(all(&mut queue, 9), "");
        assert_eq!(all(&mut queue, 40), "b a", "c is still being looked at");
    }

    #[test]
    fn a_wake_while_it_is_looked_at_takes_effect_afterwards() {
        let mut queue = queue("a:x");
        assert_eq!(all(&mut queue, 0), "a");
        queue.wake(&name("a"), second(1));
        queue.wake_all(second(5));
        assert_eq!(all(&mut queue, 6), "");
        queue.done(&name("a"), second(300));
        assert_eq!(all(&mut queue, 6), "a");
        queue.done(&name("a"), second(300));
        assert_eq!(queue.next_at(), Some(second(300)), "wakes merge");
    }

    #[test]
    fn a_full_lane_holds_up_no_other() {
        let mut queue = queue("a:x b:x c:x d:y");
        assert_eq!(all(&mut queue, 0), "a b d");
        assert_eq!(queue.next_at(), None);
        queue.done(&name("b"), second(300));
        assert_eq!(queue.next_at(), Some(second(0)));
        assert_eq!(all(&mut queue, 1), "c");
    }

    #[test]
    fn another_configuration_takes_effect_at_once_and_what_runs_is_left_alone() {
        let mut queue = queue("a:x b:x");
        assert_eq!(all(&mut queue, 0), "a b");
        queue.done(&name("b"), second(300));
        queue.set(servers("b:y c:x"), second(9));
        assert_eq!(all(&mut queue, 9), "b c");
        queue.done(&name("a"), second(10));
        queue.done(&name("b"), second(20));
        queue.done(&name("c"), second(20));
        assert_eq!(all(&mut queue, 30), "b c", "a is gone");
        // Away and back while it runs.
        queue.set(servers("c:x"), second(30));
        queue.set(servers("b:y c:x"), second(31));
        queue.done(&name("b"), second(300));
        assert_eq!(all(&mut queue, 31), "b");
    }
}
