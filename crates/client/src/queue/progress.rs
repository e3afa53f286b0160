//! `queue progress`: says how far the work on a job is.

use super::Queue;
use super::nack::TEXT_BYTES_MAX;
use crate::Error;
use crate::call::Effect;
use crate::client::CallOptions;
use crate::failure::bounded;
use quorate_proto::v1::ProgressRequest;

/// What is said of the work on a job.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) fraction: f64,
    pub(super) note: String,
}

/// What is said twice is said once, so it is as safe as a read.
pub(super) async fn progress(
    queue: &Queue,
    name: &str,
    job_id: u64,
    lease: u64,
    said: &Said,
    options: &CallOptions,
) -> Result<(), Error> {
    let permille = permille(said.fraction)?;
    let plan = queue.inner.plan("queue progress", Effect::Read, options);
    let request = || ProgressRequest {
        namespace: queue.namespace.to_string(),
        origin: None,
        queue: name.to_owned(),
        job_id,
        lease,
        permille,
        note: bounded(&said.note, TEXT_BYTES_MAX).to_owned(),
    };
    queue.inner.read(&plan, request).await?;
    Ok(())
}

fn permille(fraction: f64) -> Result<u32, Error> {
    if !(0.0..=1.0).contains(&fraction) {
        return Err(Error::bad_option(format!(
            "progress is {fraction}; it must be 0 to 1, which is all of it"
        )));
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is between 0 and 1000"
    )]
    let permille = (fraction * 1_000.0).floor() as u32;
    Ok(permille)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_is_sent_in_thousandths_and_is_whole_only_at_the_end() {
        for (fraction, sent) in [(0.0, 0), (0.25, 250), (0.9999, 999), (1.0, 1_000)] {
            assert_eq!(permille(fraction), Ok(sent), "{fraction}");
        }
        for wrong in [-0.1, 1.001, f64::NAN, f64::INFINITY] {
            assert!(permille(wrong).is_err(), "{wrong}");
        }
    }
}
