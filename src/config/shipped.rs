//! The ready-made policies, as `policies/` has them, for configurations that are written where no package has put them.
//!
//! What one of them means never changes under its name.

/// The policies that any server can follow, by their names.
const POLICIES: [(&str, &str); 5] = [
    ("bronze", include_str!("../../policies/bronze.toml")),
    ("dev", include_str!("../../policies/dev.toml")),
    ("gold", include_str!("../../policies/gold.toml")),
    ("silver", include_str!("../../policies/silver.toml")),
    (
        "worm-compliance",
        include_str!("../../policies/worm-compliance.toml"),
    ),
];

/// The names of the policies.
pub fn names() -> impl Iterator<Item = &'static str> {
    POLICIES.iter().map(|(name, _)| *name)
}

/// The table of a policy as it is written in its file, without what is said before it.
pub fn table(name: &str) -> Option<&'static str> {
    let (_, text) = POLICIES.iter().find(|(known, _)| *known == name)?;
    text.find("\n[").map(|at| &text[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_has_a_table_of_its_name() {
        for name in names() {
            let table = table(name).expect("it has one");
            assert!(table.starts_with(&format!("[policies.{name}]\n")), "{name}");
        }
        assert_eq!(table("platinum"), None);
    }
}
