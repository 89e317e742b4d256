//! The keep annotation: one small object beside a backup that says it must stay.
//!
//! Its content is `full` or `standalone`, without a line end. Barman takes the first line as it is,
//! and protects all WAL of a backup whose annotation says anything but `standalone`. So does
//! barkeep, also where the object is empty: somebody meant to keep that backup. (Barman's retention
//! ignores an empty one; its delete of a single backup does not.)

use crate::model::backup::KeepTarget;

/// What an annotation asks for.
///
/// Never fails: what cannot be understood keeps most.
pub fn parse(content: &[u8]) -> KeepTarget {
    // Barman's first line includes its line end, so `standalone\n` is not the word `standalone`.
    match content {
        b"standalone" => KeepTarget::Standalone,
        _ => KeepTarget::Full,
    }
}

/// The annotation's content.
pub fn render(target: KeepTarget) -> String {
    target.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_but_the_one_word_keeps_all_wal() {
        for content in ["full", "", "standalone\n", "Standalone", "standalone ", "?"] {
            assert_eq!(parse(content.as_bytes()), KeepTarget::Full, "{content:?}");
        }
        for target in [KeepTarget::Full, KeepTarget::Standalone] {
            assert_eq!(parse(render(target).as_bytes()), target);
        }
    }
}
