//! Names that Fairlead takes. Pure.

use std::collections::{BTreeMap, BTreeSet};

const MAX: usize = 63;

/// The names given so far, of one kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    given: BTreeSet<String>,
    /// The last number that a name got.
    numbers: BTreeMap<String, u32>,
}

impl Names {
    /// As near to `text` as possible: letters, digits, dots, underscores and hyphens, and not one
    /// that was given before.
    pub(super) fn unique(&mut self, text: &str) -> String {
        let base: String = text.chars().map(allowed).take(MAX).collect();
        let base = if base.is_empty() { "unnamed".to_owned() } else { base };
        let mut name = base.clone();
        while !self.given.insert(name.clone()) {
            let number = self.numbers.entry(base.clone()).or_insert(1);
            *number += 1;
            let suffix = format!("-{number}");
            name = base.chars().take(MAX - suffix.len()).collect::<String>() + &suffix;
        }
        name
    }
}

const fn allowed(c: char) -> char {
    if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_fairlead_takes_and_distinct() {
        let mut names = Names::default();
        assert_eq!(names.unique("kube:api server"), "kube-api-server");
        assert_eq!(names.unique("kube-api-server"), "kube-api-server-2");
        assert_eq!(names.unique(""), "unnamed");
        let long = "x".repeat(70);
        assert_eq!(names.unique(&long).len(), 63);
        assert!(names.unique(&long).ends_with("x-2"));
    }
}
