//! Who runs: the identity of a process, and whether another one on this host still does.
//!
//! A process number alone is used again. With the machine's boot id and the process's start time it names one process for ever, so that
//! a killed attempt is known to be dead at once, without waiting for a time-out. Source of the format: `proc(5)`.

use std::fs;

use crate::model::record::{Actor, Life};

/// The present process.
pub fn current() -> Actor {
    let pid = std::process::id();
    Actor {
        host: read("/proc/sys/kernel/hostname").unwrap_or_default(),
        boot: boot().unwrap_or_default(),
        pid,
        started: started(pid).unwrap_or_default(),
    }
}

/// Whether a process still runs, as far as this host can tell.
pub fn life(actor: &Actor) -> Life {
    match boot() {
        Some(boot) if boot == actor.boot => match started(actor.pid) {
            Some(started) if started == actor.started => Life::Alive,
            _ => Life::Dead,
        },
        // Another boot id is another machine, or this one before it was restarted: the host name cannot tell which.
        _ => Life::Elsewhere,
    }
}

fn boot() -> Option<String> {
    read("/proc/sys/kernel/random/boot_id")
}

/// The 22nd field of `stat`, counted after the program's name, which may hold anything.
fn started(pid: u32) -> Option<u64> {
    let stat = read(&format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    // A zombie has ended; only its parent has not noticed.
    let state = fields.next()?;
    let ended = matches!(state, "Z" | "X");
    fields.nth(18).filter(|_| !ended)?.parse().ok()
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path)
        .ok()
        .map(|text| text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn this_process_lives_and_an_earlier_one_of_its_number_does_not() {
        let this = current();
        assert_eq!(life(&this), Life::Alive);
        assert_eq!(
            life(&Actor {
                started: this.started - 1,
                ..this.clone()
            }),
            Life::Dead
        );
        assert_eq!(
            life(&Actor {
                boot: "other".to_owned(),
                ..this
            }),
            Life::Elsewhere
        );
    }

    #[test]
    fn a_killed_process_is_dead_even_before_its_parent_noticed() {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .spawn()
            .expect("cat starts");
        let pid = child.id();
        let actor = Actor {
            pid,
            started: started(pid).expect("it runs"),
            ..current()
        };
        assert_eq!(life(&actor), Life::Alive);
        child.kill().expect("it is ours");
        // Waiting is what makes it certain that the signal has arrived.
        child.wait().expect("it ended");
        assert_eq!(life(&actor), Life::Dead);
    }
}
