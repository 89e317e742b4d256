//! The status page: one line for each server and destination, with a strip of what can be restored.
//!
//! One file of HTML without scripts, fonts or pictures, so that it can be served, mailed and kept. What is wrong comes first. Every text
//! from outside is escaped.

use std::fmt::{self, Write as _};

use super::{
    Line, Status,
    strip::{Locked, Mark, MarkKind, Reach},
};
use crate::{
    model::{
        backup::KeepTarget,
        condition::Standing,
        time::{Span, Timestamp},
    },
    plan::render::{Bytes, Until},
    reconcile::board::Attempt,
};

/// What the page may load: nothing.
pub const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

const STYLE: &str = include_str!("page.css");

/// Whether the page comes again by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// Twice a minute: it is served.
    Often,
    /// It is a file.
    Never,
}

/// The page.
pub fn html(status: &Status, refresh: Refresh) -> String {
    let mut page = Page {
        text: String::new(),
        now: status.now,
    };
    // Writing to a text does not fail.
    let _ = page.write(status, refresh);
    page.text
}

struct Page {
    text: String,
    now: Option<Timestamp>,
}

/// A text as HTML shows it.
struct Escaped<T>(T);

impl<T: fmt::Display> fmt::Display for Escaped<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.to_string().chars() {
            match letter {
                '&' => formatter.write_str("&amp;")?,
                '<' => formatter.write_str("&lt;")?,
                '>' => formatter.write_str("&gt;")?,
                '"' => formatter.write_str("&quot;")?,
                '\'' => formatter.write_str("&#39;")?,
                letter => formatter.write_char(letter)?,
            }
        }
        Ok(())
    }
}

/// An instant to the minute, as people read it.
struct Minute(Timestamp);

impl fmt::Display for Minute {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0.utc().format("%Y-%m-%d %H:%M"))
    }
}

impl Page {
    fn write(&mut self, status: &Status, refresh: Refresh) -> fmt::Result {
        let again = match refresh {
            Refresh::Often => "<meta http-equiv=\"refresh\" content=\"30\">",
            Refresh::Never => "",
        };
        write!(
            self.text,
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">{again}\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <title>barkeep: {}</title><style>\n{STYLE}</style></head><body>\n",
            status.standing()
        )?;
        self.header(status)?;
        let mut lines: Vec<&Line> = status.servers.iter().collect();
        lines.sort_by_key(|line| std::cmp::Reverse(line.standing));
        for line in lines {
            self.line(line)?;
        }
        self.legend()?;
        self.text.write_str("</body></html>\n")
    }

    fn header(&mut self, status: &Status) -> fmt::Result {
        let lines = status.servers.len();
        write!(self.text, "<header><h1>barkeep</h1>")?;
        if let Some(now) = status.now {
            write!(self.text, "<p>{} UTC</p>", Minute(now))?;
        }
        if let Some((watch, now)) = status.watch.as_ref().zip(status.now) {
            let since = Span(now.since(watch.started));
            write!(self.text, "<p>watching for {since}</p>")?;
            if !watch.unseen.is_empty() {
                write!(
                    self.text,
                    "<p>{} servers not looked at yet</p>",
                    watch.unseen.len()
                )?;
            }
        }
        write!(
            self.text,
            "</header>\n<ul class=\"counts\"><li><b>{lines}</b>in all</li>"
        )?;
        for standing in [
            Standing::Stalled,
            Standing::Blocked,
            Standing::Progressing,
            Standing::Converged,
        ] {
            let count = status
                .servers
                .iter()
                .filter(|line| line.standing == standing)
                .count();
            if count > 0 {
                let pill = format!("<span class=\"pill {standing}\">{standing}</span>");
                write!(self.text, "<li><b>{count}</b>{pill}</li>")?;
            }
        }
        self.text.write_str("</ul>\n")?;
        let refused = status
            .watch
            .as_ref()
            .and_then(|watch| watch.configuration.refused.as_ref());
        if let Some(refused) = refused {
            writeln!(
                self.text,
                "<p class=\"notice\">The configuration on disk cannot be used since {} UTC; the one before holds. {}</p>",
                Minute(refused.since),
                Escaped(&refused.why)
            )?;
        }
        Ok(())
    }

    fn line(&mut self, line: &Line) -> fmt::Result {
        let standing = line.standing;
        writeln!(
            self.text,
            "<section><div class=\"head\"><h2>{} <span>→ {}</span></h2>\
             <span class=\"pill {standing}\">{standing}</span><p>{}</p></div>",
            Escaped(&line.server),
            Escaped(&line.destination),
            Escaped(self.sentence(line))
        )?;
        self.strip(line)?;
        if !line.notes.is_empty() {
            self.text.write_str("<ul class=\"notes\">")?;
            for (word, message) in &line.notes {
                write!(self.text, "<li><b>{word}</b>{}</li>", Escaped(message))?;
            }
            self.text.write_str("</ul>\n")?;
        }
        self.text.write_str("</section>\n")
    }

    /// What matters most of a line, in words.
    fn sentence(&self, line: &Line) -> String {
        let mut parts = Vec::new();
        let age = |instant: Timestamp| self.now.map(|now| Span(now.since(instant)).to_string());
        match line.newest_good.as_ref().map(|newest| newest.end_time) {
            Some(end) => {
                let age = end.and_then(age).unwrap_or_default();
                parts.push(format!("last good backup {age} old"));
            }
            None => parts.push("no good backup".to_owned()),
        }
        if let Some(window) = &line.window {
            let reached = line.reached;
            parts.push(format!(
                "recoverable from {} to {}",
                Minute(window.from),
                Until { window, reached }
            ));
        }
        let watched = line.watched.as_ref();
        if let Some(attempt) = watched.and_then(|watched| watched.attempt.as_ref()) {
            parts.push(self.attempt(attempt));
        }
        if let (Some(due), Some(now)) = (line.next_due, self.now) {
            parts.push(format!("next backup in {}", Span(due.since(now))));
        }
        if let Some(stored) = line.stored {
            parts.push(format!(
                "{} in backups, {} in WAL",
                Bytes(stored.backup_bytes),
                Bytes(stored.wal_bytes)
            ));
        }
        if let Some(age) = self
            .now
            .filter(|now| now.since(line.read_at).as_secs() > 900)
        {
            parts.push(format!("read {} ago", Span(age.since(line.read_at))));
        }
        parts.join(" · ")
    }

    /// What runs, for how long, and how far it is.
    fn attempt(&self, attempt: &Attempt) -> String {
        let Attempt {
            action, reached, ..
        } = attempt;
        let mut text = format!("{action} {}", reached.phase);
        if let Some(missing) = reached.missing {
            let _ = write!(text, " {missing}");
        } else if reached.bytes > 0 {
            let _ = write!(text, " {}", Bytes(reached.bytes));
            if let Some(of) = reached.of {
                let _ = write!(text, " of {}", Bytes(of));
            }
        }
        if let Some(now) = self.now {
            let _ = write!(text, " for {}", Span(now.since(attempt.since)));
        }
        text
    }

    fn strip(&mut self, line: &Line) -> fmt::Result {
        let (Some(strip), Some(now)) = (&line.strip, self.now) else {
            return Ok(());
        };
        let scale = Scale::of(line, now);
        let label = format!("{} backups, {} gaps", strip.marks.len(), strip.gaps.len());
        write!(
            self.text,
            "<div class=\"strip\" role=\"img\" aria-label=\"{label}\">"
        )?;
        for reach in &strip.reaches {
            self.span("reach", &scale, reach, "recoverable")?;
        }
        for gap in &strip.gaps {
            self.span("gap", &scale, gap, "cannot be restored: WAL is missing")?;
        }
        for mark in &strip.marks {
            self.mark(&scale, mark)?;
        }
        self.point("now", scale.place(now), "now")?;
        if let Some(due) = line.next_due {
            self.point(
                "due",
                scale.place(due),
                &format!("next backup due {} UTC", Minute(due)),
            )?;
        }
        self.ticks(&scale, now)?;
        self.text.write_str("</div>\n")
    }

    fn span(&mut self, class: &str, scale: &Scale, span: &Reach, what: &str) -> fmt::Result {
        let (from, to) = (scale.place(span.from), scale.place(span.to));
        let width = (to - from).max(0.0);
        let (begin, end) = (Minute(span.from), Minute(span.to));
        write!(
            self.text,
            "<i class=\"{class}\" style=\"left:{from:.2}%;width:{width:.2}%\" title=\"{what}: {begin} to about {end} UTC\"></i>"
        )
    }

    fn point(&mut self, class: &str, at: f64, title: &str) -> fmt::Result {
        let title = Escaped(title);
        write!(
            self.text,
            "<i class=\"{class}\" style=\"left:{at:.2}%\" title=\"{title}\"></i>"
        )
    }

    fn mark(&mut self, scale: &Scale, mark: &Mark) -> fmt::Result {
        let kind = match mark.kind {
            MarkKind::Good => "good",
            MarkKind::Expiring => "expiring",
            MarkKind::Running => "running",
            MarkKind::Damaged => "damaged",
            MarkKind::Failed => "failed",
        };
        let mut title = format!("{} {kind}, {}", mark.backup, Bytes(mark.bytes));
        if let Some(why) = &mark.why {
            let _ = write!(title, ": {why}");
        }
        let at = scale.place(mark.at);
        self.point(&format!("backup {kind}"), at, &title)?;
        if let Some(keep) = mark.keep {
            let how = match keep {
                KeepTarget::Full => "with all WAL since",
                KeepTarget::Standalone => "by itself",
            };
            self.point("keep", at, &format!("{} is kept, {how}", mark.backup))?;
        }
        match mark.locked {
            Some(Locked::Until(until)) => {
                let title = format!("{} is locked until {} UTC", mark.backup, Minute(until));
                self.point("lock", at, &title)
            }
            Some(Locked::Held) => self.point("lock", at, &format!("{} is locked", mark.backup)),
            None => Ok(()),
        }
    }

    fn ticks(&mut self, scale: &Scale, now: Timestamp) -> fmt::Result {
        let (from, to) = (scale.from, scale.to);
        let now = scale.place(now);
        write!(
            self.text,
            "<u class=\"first\" style=\"left:0\">{}</u>",
            Minute(from)
        )?;
        if (15.0..85.0).contains(&now) {
            write!(self.text, "<u style=\"left:{now:.2}%\">now</u>")?;
        }
        write!(
            self.text,
            "<u class=\"last\" style=\"left:100%\">{}</u>",
            Minute(to)
        )
    }

    fn legend(&mut self) -> fmt::Result {
        self.text.write_str("<footer>")?;
        for (class, meaning) in [
            ("reach", "recoverable"),
            ("gap", "gap"),
            ("backup good", "backup"),
            ("backup expiring", "may go"),
            ("backup running", "running"),
            ("backup damaged", "damaged"),
            ("backup failed", "failed"),
            ("keep", "kept"),
            ("lock", "locked"),
            ("now", "now"),
            ("due", "next due"),
        ] {
            write!(
                self.text,
                "<span class=\"key\"><i class=\"{class}\"></i></span>{meaning}"
            )?;
        }
        self.text.write_str("</footer>\n")
    }
}

/// Where instants lie on a strip.
struct Scale {
    from: Timestamp,
    to: Timestamp,
}

impl Scale {
    /// From a little before the first backup to a little after the next one is due.
    fn of(line: &Line, now: Timestamp) -> Self {
        let marks = line.strip.iter().flat_map(|strip| &strip.marks);
        let first = marks.map(|mark| mark.at).min().unwrap_or(now);
        // A due time that is far away must not squeeze the past.
        let past = now.since(first).max(std::time::Duration::from_hours(1));
        let due = line.next_due.unwrap_or(now).min(now + past).max(now);
        let margin = (due.since(first)).max(past) / 40;
        Self {
            from: first - margin,
            to: due + margin,
        }
    }

    /// In percent of the strip.
    fn place(&self, at: Timestamp) -> f64 {
        let whole = self.to.since(self.from).as_secs_f64().max(1.0);
        (at.since(self.from).as_secs_f64() / whole * 100.0).clamp(0.0, 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::scene, plan::testing::World, reconcile::Activation};

    fn page(text: &str) -> String {
        let world = World::parse(text);
        let activation = Activation {
            plan: world.plan(),
            observed: world.observed,
        };
        html(&Status::seen([&activation]), Refresh::Never)
    }

    /// How many elements of a class there are, the legend left out.
    fn count(page: &str, class: &str) -> usize {
        let body = page.split("<footer>").next().unwrap_or_default();
        body.matches(&format!("<i class=\"{class}\"")).count()
    }

    #[test]
    fn a_strip_shows_backups_keeps_gaps_and_the_next_due_time() {
        let page = page(
            "schedule=0_2_*_*_* retention=30x | done 9h | done 4d keep:full | failed 2d | done 8d | wal 1:900-955 1:958-1010",
        );
        let classes = [
            "backup good",
            "backup failed",
            "keep",
            "reach",
            "gap",
            "now",
            "due",
        ];
        let counts = classes.map(|class| count(&page, class));
        assert_eq!(counts, [3, 1, 1, 2, 1, 1, 1]);
        assert!(page.contains("last good backup 9h old"), "{page}");
    }

    #[test]
    fn nothing_is_loaded_and_nothing_runs() {
        let page = page("schedule=@hourly | done 1d");
        for word in [
            "<script", "http://", "https://", "url(", "@import", "<img", "onload",
        ] {
            assert!(!page.contains(word), "{word}");
        }
    }

    #[test]
    fn what_comes_from_outside_is_escaped() {
        let mut world = World::parse("| done 1d name:x");
        let mut plan = world.plan();
        let target = plan.targets.values_mut().next().expect("one");
        let message = "<b>\"x\" & 'y'</b>".to_owned();
        target.conditions[0].message = message;
        target.conditions[0].standing = Standing::Stalled;
        world.now = scene::now();
        let activation = Activation {
            plan,
            observed: world.observed,
        };
        let page = html(&Status::seen([&activation]), Refresh::Never);
        assert!(page.contains("&lt;b&gt;&quot;x&quot; &amp; &#39;y&#39;&lt;/b&gt;"));
    }

    #[test]
    fn what_is_wrong_comes_first() {
        let activation = |text: &str, name: &str| {
            let mut world = World::parse(text);
            world.server.name = name.parse().expect("a name");
            Activation {
                plan: world.plan(),
                observed: world.observed,
            }
        };
        let all = [
            activation("| done 1d", "fine"),
            activation("| done 1d empty:", "broken"),
        ];
        let page = html(&Status::seen(&all), Refresh::Never);
        let place = |word: &str| page.find(word).expect("it is on the page");
        assert!(place("broken") < place("fine"));
        assert!(page.contains("<title>barkeep: stalled</title>"));
    }
}
