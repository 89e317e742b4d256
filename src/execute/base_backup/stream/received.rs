//! What a server says of damaged pages, in its warnings.
//!
//! Their words may be in any language; what is relied on is that the file stands in quotes and that the number of a block is followed by a
//! colon. A server that met damage and named nothing is believed all the same.

use std::{collections::BTreeMap, path::Path};

use crate::{
    model::record::DamagedPages,
    pipeline::page::{PAGES_PER_FILE, file_number},
    postgres::replication::Farewell,
};

/// The files with damaged pages.
pub(super) fn damaged(farewell: &Farewell, data_directory: &Path) -> Vec<DamagedPages> {
    if !farewell.damaged {
        return Vec::new();
    }
    let mut files: BTreeMap<&str, DamagedPages> = BTreeMap::new();
    for warning in &farewell.warnings {
        let Some((path, number)) = understood(warning) else {
            continue;
        };
        let file = files.entry(path).or_insert_with(|| DamagedPages {
            path: data_directory.join(path),
            pages: 0,
            blocks: Vec::new(),
        });
        match number {
            Number::Block(block) => {
                let first = file_number(Path::new(path)).unwrap_or(0) * PAGES_PER_FILE;
                file.blocks.push(first + block);
                file.pages = file.pages.max(file.blocks.len() as u64);
            }
            Number::Total(pages) => file.pages = file.pages.max(pages),
        }
    }
    if files.is_empty() {
        let unnamed = DamagedPages {
            path: data_directory.to_owned(),
            pages: 1,
            blocks: Vec::new(),
        };
        return vec![unnamed];
    }
    files.into_values().collect()
}

enum Number {
    Block(u32),
    Total(u64),
}

/// `… "base/5/16384", block 3: …` or `… "base/5/16384" … 7 …`.
fn understood(warning: &str) -> Option<(&str, Number)> {
    let mut parts = warning.splitn(3, '"');
    let (_, path, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let start = rest.find(|c: char| c.is_ascii_digit())?;
    let digits = &rest[start..];
    let end = digits.find(|c: char| !c.is_ascii_digit());
    let (digits, rest) = digits.split_at(end.unwrap_or(digits.len()));
    Some(if rest.starts_with(':') {
        (path, Number::Block(digits.parse().ok()?))
    } else {
        (path, Number::Total(digits.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(damaged: bool, warnings: &[&str]) -> String {
        let warnings = warnings.iter().map(|text| (*text).to_owned()).collect();
        let farewell = Farewell { damaged, warnings };
        let files = super::damaged(&farewell, Path::new("/d"));
        let text = |file: &DamagedPages| {
            let path = file.path.display();
            format!("{path} {:?} of {}", file.blocks, file.pages)
        };
        files.iter().map(text).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn damaged_pages_are_read_from_warnings() {
        let named = "checksum verification failed in file \"base/5/16384.1\", block 3: calculated \
            2 but expected 4";
        let total = "file \"base/5/16384.1\" has a total of 7 checksum verification failures";
        let wait = "still waiting for WAL summarization \"x\" 3: y";
        assert_eq!(
            told(true, &[named, total]),
            "/d/base/5/16384.1 [131075] of 7"
        );
        assert_eq!(told(false, &[wait]), "");
        assert_eq!(
            told(true, &["7 total checksum verification failures"]),
            "/d [] of 1"
        );
    }
}
