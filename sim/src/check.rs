//! Rules on settings that types cannot state: ranges, and settings that need or exclude each other.
//!
//! Every specification of a policy says its own rules in a `check`. The JSON schema of scenarios carries the same ranges, as
//! attributes of the fields.

use crate::units::Duration;

/// A broken rule: the dotted path of the setting, and a message that goes on after the setting's name (`is 0; it must be …`).
pub type Problem = (String, String);

/// Collects the broken rules of the settings below a path.
#[derive(Debug)]
pub struct Check<'l> {
    path: String,
    found: &'l mut Vec<Problem>,
}

impl<'l> Check<'l> {
    /// Adds to `found` what is wrong below `path`; an empty path is the root.
    pub fn new(path: impl Into<String>, found: &'l mut Vec<Problem>) -> Self {
        Check { path: path.into(), found }
    }

    /// The same for the settings below a key.
    pub fn below(&mut self, key: &str) -> Check<'_> {
        Check { path: self.join(key), found: self.found }
    }

    fn join(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// A rule about the setting `key`, with what to say where it is broken.
    pub fn that(&mut self, holds: bool, key: &str, message: impl Into<String>) {
        if !holds {
            self.found.push((self.join(key), message.into()));
        }
    }

    /// A whole number from `low` to `high`.
    pub fn range(&mut self, key: &str, value: impl Into<u64>, low: u64, high: u64) {
        let value = value.into();
        self.that((low..=high).contains(&value), key, format!("is {value}; it must be from {low} to {high}"));
    }

    /// A whole number from 1, where one is stated.
    pub fn positive(&mut self, key: &str, value: impl Into<Option<u32>>) {
        self.that(value.into() != Some(0), key, "is 0; it must be at least 1");
    }

    /// A share from 0 to 1.
    pub fn share(&mut self, key: &str, share: f64) {
        self.that((0.0..=1.0).contains(&share), key, format!("is {share}; it must be from 0 to 1"));
    }

    /// A share from 0 that leaves something.
    pub fn share_below_one(&mut self, key: &str, share: f64) {
        self.that((0.0..1.0).contains(&share), key, format!("is {share}; it must be at least 0 and below 1"));
    }

    /// A share up to 1 that is something.
    pub fn share_above_zero(&mut self, key: &str, share: f64) {
        self.that(share > 0.0 && share <= 1.0, key, format!("is {share}; it must be above 0 and at most 1"));
    }

    /// A time that is not nothing.
    pub fn time(&mut self, key: &str, time: Duration) {
        self.that(time.0.0 > 0, key, "is 0; it must be above 0");
    }
}
