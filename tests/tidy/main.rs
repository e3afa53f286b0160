//! The rules of the repository that no compiler checks, each with what to do about a breach.
//!
//! Every rule is a function from text to breaches. It is tested twice: on the repository, where it
//! must find none, and on a planted breach, which it must find.

mod chart;
mod deploy;
mod documents;
mod layers;
mod metrics;
mod planted;
mod protos;
mod sources;
mod wire;
mod workspace;

/// Fails with all breaches at once.
fn assert_none(breaches: &[String]) {
    assert!(breaches.is_empty(), "{} breaches:\n{}", breaches.len(), breaches.join("\n"));
}

/// Passes when exactly these breaches were planted, each told by a part of its text.
#[track_caller]
fn assert_found(breaches: &[String], parts: &[&str]) {
    assert_eq!(breaches.len(), parts.len(), "{breaches:#?}");
    for (breach, part) in breaches.iter().zip(parts) {
        assert!(breach.contains(part), "{part:?} is missing in: {breach}");
    }
}
