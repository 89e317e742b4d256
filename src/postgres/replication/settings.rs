//! Settings of the server, as `SHOW` tells them.

use super::{Replication, column, only};
use crate::{model::wal::SegmentSize, postgres::Error};

impl Replication {
    /// The size of the server's WAL segments.
    pub async fn segment_size(&mut self) -> Result<SegmentSize, Error> {
        const DOING: &str = "tell the size of its WAL segments";
        let row = only(DOING, self.ask(DOING, "SHOW wal_segment_size").await?)?;
        column(DOING, &row, 0, segment_size)
    }

    /// `synchronous_standby_names`: those whose word a commit waits for.
    pub async fn synchronous_standbys(&mut self) -> Result<String, Error> {
        const DOING: &str = "tell its synchronous standbys";
        let command = "SHOW synchronous_standby_names";
        let row = only(DOING, self.ask(DOING, command).await?)?;
        column(DOING, &row, 0, |text| Some(text.to_owned()))
    }
}

/// `16MB`: the server chooses the largest unit that leaves a whole number.
fn segment_size(text: &str) -> Option<SegmentSize> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit: u64 = match &text[digits.len()..] {
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        _ => return None,
    };
    let number: u64 = digits.parse().ok()?;
    SegmentSize::new(number.checked_mul(unit)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_and_a_unit() {
        for (text, mebibytes) in [("1MB", 1), ("16MB", 16), ("1GB", 1024)] {
            let size = segment_size(text).map(SegmentSize::bytes);
            assert_eq!(size, Some(mebibytes << 20), "{text}");
        }
        for text in ["", "MB", "16", "3MB", "16kB", "99999999999999999999GB"] {
            assert_eq!(segment_size(text), None, "{text}");
        }
    }
}
