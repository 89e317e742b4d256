//! A file of sections and options, as Python's `configparser` reads it, with the line of every option.
//!
//! Its documented behaviour, as Barman sets it up: options are in lower case, `=` or `:` parts them from their values, a deeper line goes on with
//! the value above it, comments are whole lines, the last of several counts, and `%(name)s` is another option's value. Options before any
//! section are none.

use super::note::Place;

/// A section in the order of the file; one that comes again is another one here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) name: String,
    /// Its header.
    pub(super) place: Place,
    pub(super) options: Vec<Assigned>,
}

/// An option with its value, which is not interpolated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assigned {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) place: Place,
}

/// What was read, and the lines that are nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) sections: Vec<Section>,
    pub(super) strange: Vec<(Place, String)>,
}

/// Reads a text.
pub(super) fn read(file: &str, text: &str) -> Read {
    let mut read = Read::default();
    // How far the option was moved in whose value may go on.
    let mut option_indent: Option<usize> = None;
    for (line, number) in text.trim_start_matches('\u{feff}').lines().zip(1..) {
        let trimmed = line.trim();
        if trimmed.starts_with(['#', ';']) || trimmed.is_empty() {
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let place = Place::new(file, number);
        let options = read.sections.last_mut().map(|section| &mut section.options);
        if option_indent.is_some_and(|option| indent > option)
            && let Some(last) = options.and_then(|options| options.last_mut())
        {
            last.value.extend(["\n", trimmed]);
            continue;
        }
        option_indent = Some(indent);
        if let Some(name) = header(trimmed) {
            let name = name.to_owned();
            option_indent = None;
            read.sections.push(Section {
                name,
                place,
                options: Vec::new(),
            });
        } else if let (Some(section), Some((key, value))) =
            (read.sections.last_mut(), option(trimmed))
        {
            section.options.push(Assigned { key, value, place });
        } else {
            option_indent = None;
            read.strange.push((place, trimmed.to_owned()));
        }
    }
    read
}

fn header(line: &str) -> Option<&str> {
    let (name, _) = line.strip_prefix('[')?.rsplit_once(']')?;
    (!name.is_empty()).then_some(name)
}

fn option(line: &str) -> Option<(String, String)> {
    let (key, value) = line.split_once(['=', ':'])?;
    Some((key.trim_end().to_lowercase(), value.trim().to_owned()))
}

/// Puts other options' values where `%(name)s` stands, and a per cent sign where `%%` does. The error is what else a per cent sign begins, or
/// the name that nobody knows.
pub(super) fn interpolated(
    value: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<String, String> {
    const DEPTH: usize = 10;
    let mut value = value.to_owned();
    for _ in 0..DEPTH {
        if !value.contains('%') {
            break;
        }
        let mut result = String::new();
        let mut rest = value.as_str();
        while let Some(at) = rest.find('%') {
            let (before, from) = rest.split_at(at);
            result.push_str(before);
            if let Some((name, after)) = from.strip_prefix("%(").and_then(|f| f.split_once(")s")) {
                result.push_str(&lookup(name).ok_or_else(|| format!("%({name})s"))?);
                rest = after;
            } else if let Some(after) = from.strip_prefix("%%") {
                result.push_str("%%");
                rest = after;
            } else {
                return Err(from.chars().take(2).collect());
            }
        }
        result.push_str(rest);
        value = result;
    }
    Ok(value.replace("%%", "%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_their_sections_and_lines() {
        let text = "; c\n[Barman]\nBarman_Home = /b\n\n# c\nlog_file: x ; no comment\n[a b]\n  k=1\n  l = 2\n     3\n\nnothing\n[c]\n m = n\n";
        let read = read("f", text);
        let shown: Vec<_> = read
            .sections
            .iter()
            .flat_map(|section| {
                let options = section.options.iter();
                options.map(|o| format!("{}.{}={} {}", section.name, o.key, o.value, o.place.line))
            })
            .collect();
        assert_eq!(
            shown,
            [
                "Barman.barman_home=/b 3",
                "Barman.log_file=x ; no comment 6",
                "a b.k=1 8",
                "a b.l=2\n3 9",
                "c.m=n 14",
            ]
        );
        let strange = read
            .strange
            .iter()
            .map(|(place, text)| (place.line, text.as_str()));
        assert_eq!(strange.collect::<Vec<_>>(), [(12, "nothing")]);
    }

    #[test]
    fn names_in_values_are_replaced() {
        let lookup = |name: &str| match name {
            "home" => Some("/%(name)s".to_owned()),
            "name" => Some("x".to_owned()),
            _ => None,
        };
        let read = |text: &str| interpolated(text, &lookup);
        assert_eq!(read("%(home)s/%(name)s 5%%"), Ok("/x/x 5%".to_owned()));
        assert_eq!(read("%%(home)s"), Ok("%(home)s".to_owned()));
        assert_eq!(read("%(nobody)s"), Err("%(nobody)s".to_owned()));
        assert_eq!(read("100 %p"), Err("%p".to_owned()));
    }
}
