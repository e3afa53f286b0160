//! How traces are sent: the variables that OpenTelemetry names. Only those; they are the same for all
//! programs of a deployment, so they have no place in the configuration file.

use std::str::FromStr;
use std::time::Duration;

/// Of requests whose callers say nothing: one in a hundred. The standard would trace all of them, which
/// is right for a web server and not for what answers tens of thousands a second.
const RATIO: f64 = 0.01;
/// Spans that wait to be sent at most; a request with a write has five.
const QUEUED_MAX: usize = 1 << 20;

/// How traces are sent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) protocol: Protocol,
    pub(crate) sampler: Sampler,
    /// Spans that wait to be sent; beyond it they are dropped.
    pub(crate) queued_max: usize,
    /// Spans after which a message is sent at once.
    pub(crate) batch_max: usize,
    /// How long a span waits for others.
    pub(crate) delay: Duration,
    /// How long one message may take.
    pub(crate) timeout: Duration,
}

/// What is spoken to the collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Grpc,
    Http,
}

/// Which requests are traced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sampler {
    /// Those of a caller who says whether he traces are traced as he does.
    parent_based: bool,
    /// Of the others: those whose trace ids, as numbers, are below.
    below: u64,
}

impl Sampler {
    /// One that traces this part of what begins here.
    pub(crate) fn of(parent_based: bool, ratio: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the ratio is between 0 and 1"
        )]
        let below = (ratio.clamp(0.0, 1.0) * (1_u64 << 63) as f64) as u64;
        Self { parent_based, below }
    }

    /// Whether a request of this trace is traced; what its caller says of itself, if there is one.
    pub(crate) fn samples(self, trace: u128, parent: Option<bool>) -> bool {
        match parent {
            Some(sampled) if self.parent_based => sampled,
            // As every implementation does it, so that all programs choose the same traces.
            _ => {
                let low = u64::try_from(trace & u128::from(u64::MAX)).unwrap_or(u64::MAX);
                low >> 1 < self.below
            }
        }
    }

    /// Whether it never traces what begins here, so that no id has to be made up.
    pub(crate) fn never_begins(self) -> bool {
        self.below == 0
    }
}

/// What the variables said that can't be followed, for the log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Complaints(pub(crate) Vec<String>);

impl Settings {
    /// What the variables say; none: nothing is traced. What is wrong does not stop a node: a default is
    /// taken instead, or nothing is traced, and it is complained of.
    pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> (Option<Self>, Complaints) {
        let mut complaints = Complaints::default();
        let variable = |name: &str| {
            variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
        };
        let is_true = |name: &str| variable(name).is_some_and(|v| v.eq_ignore_ascii_case("true"));
        // Of the two names of a setting the one for traces alone goes first.
        let otlp = |name: &str| {
            variable(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}"))
                .or_else(|| variable(&format!("OTEL_EXPORTER_OTLP_{name}")))
        };
        let Some(endpoint) = otlp("ENDPOINT").filter(|_| !is_true("OTEL_SDK_DISABLED")) else {
            return (None, complaints);
        };
        match variable("OTEL_TRACES_EXPORTER").as_deref() {
            None | Some("otlp") => {}
            Some("none") => return (None, complaints),
            Some(other) => {
                complaints.0.push(format!(
                    "OTEL_TRACES_EXPORTER is {other:?}; only otlp and none are there, so nothing is traced"
                ));
                return (None, complaints);
            }
        }
        let protocol = match otlp("PROTOCOL").as_deref() {
            Some("grpc") => Protocol::Grpc,
            None | Some("http/protobuf") => Protocol::Http,
            Some(other) => {
                complaints.0.push(format!(
                    "OTEL_EXPORTER_OTLP_PROTOCOL is {other:?}; only grpc and http/protobuf are there, so \
                     nothing is traced"
                ));
                return (None, complaints);
            }
        };
        if protocol == Protocol::Http && endpoint.starts_with("https:") {
            complaints.0.push(format!(
                "{endpoint} can't be reached by http/protobuf, because only gRPC is encrypted here, so \
                 nothing is traced; set OTEL_EXPORTER_OTLP_PROTOCOL=grpc, and the port for that"
            ));
            return (None, complaints);
        }
        let sampler = sampler(
            variable("OTEL_TRACES_SAMPLER").as_deref(),
            variable("OTEL_TRACES_SAMPLER_ARG").as_deref(),
            &mut complaints,
        );
        let mut number = |name: &str, default: u64, max: u64| {
            let Some(value) = variable(name) else { return default };
            match u64::from_str(&value) {
                Ok(number) if (1..=max).contains(&number) => number,
                _ => {
                    complaints.0.push(format!(
                        "{name} is {value:?}, and not a number from 1 to {max}; it is taken for {default}"
                    ));
                    default
                }
            }
        };
        let queued_max = number("OTEL_BSP_MAX_QUEUE_SIZE", 2_048, QUEUED_MAX as u64);
        let batch_max = number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, QUEUED_MAX as u64);
        let delay_ms = number("OTEL_BSP_SCHEDULE_DELAY", 5_000, 3_600_000);
        let timeout_ms = number("OTEL_BSP_EXPORT_TIMEOUT", 30_000, 3_600_000);
        let count = |number: u64| usize::try_from(number).unwrap_or(QUEUED_MAX);
        let settings = Self {
            protocol,
            sampler,
            queued_max: count(queued_max),
            batch_max: count(batch_max.min(queued_max)),
            delay: Duration::from_millis(delay_ms),
            timeout: Duration::from_millis(timeout_ms),
        };
        (Some(settings), complaints)
    }
}

fn sampler(name: Option<&str>, argument: Option<&str>, complaints: &mut Complaints) -> Sampler {
    let mut ratio = |default: f64| match argument.map(f64::from_str) {
        None => default,
        Some(Ok(ratio)) if (0.0..=1.0).contains(&ratio) => ratio,
        Some(_) => {
            complaints.0.push(format!(
                "OTEL_TRACES_SAMPLER_ARG is {:?}, and not a number from 0 to 1; it is taken for {default}",
                argument.unwrap_or_default()
            ));
            default
        }
    };
    match name {
        None => Sampler::of(true, ratio(RATIO)),
        Some("always_on") => Sampler::of(false, 1.0),
        Some("always_off") => Sampler::of(false, 0.0),
        Some("traceidratio") => Sampler::of(false, ratio(1.0)),
        Some("parentbased_always_on") => Sampler::of(true, 1.0),
        Some("parentbased_always_off") => Sampler::of(true, 0.0),
        Some("parentbased_traceidratio") => Sampler::of(true, ratio(1.0)),
        Some(other) => {
            complaints.0.push(format!(
                "OTEL_TRACES_SAMPLER is {other:?}, which is not there; it is taken for \
                 parentbased_traceidratio with {RATIO}"
            ));
            Sampler::of(true, RATIO)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(set: &[(&str, &str)]) -> (Option<Settings>, Complaints) {
        Settings::read(|name| {
            set.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nothing_is_traced_unless_it_is_said_where_to() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        for off in [
            &[("OTEL_SERVICE_NAME", "broker")][..],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")],
            &[endpoint, ("OTEL_SDK_DISABLED", "TRUE")],
            &[endpoint, ("OTEL_TRACES_EXPORTER", "none")],
        ] {
            assert_eq!(read(off), (None, Complaints::default()), "{off:?}");
        }
        let (settings, complaints) = read(&[endpoint]);
        let settings = settings.unwrap();
        assert_eq!(complaints, Complaints::default());
        assert_eq!(settings.protocol, Protocol::Http);
        assert_eq!((settings.queued_max, settings.batch_max), (2_048, 512));
        assert_eq!(settings.sampler, Sampler::of(true, RATIO));
    }

    #[test]
    fn the_name_for_traces_alone_goes_first() {
        let (settings, _) = read(&[
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://collector:4317"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
            ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ]);
        let settings = settings.unwrap();
        assert_eq!(settings.protocol, Protocol::Grpc);
        assert_eq!(settings.delay, Duration::from_millis(100));
    }

    #[test]
    fn what_is_wrong_is_complained_of_and_stops_nothing() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        let of = |set: &[(&str, &str)]| {
            let mut all = vec![endpoint];
            all.extend_from_slice(set);
            let (settings, complaints) = read(&all);
            (settings, complaints.0.join("; "))
        };
        let (settings, complaints) = of(&[("OTEL_BSP_MAX_QUEUE_SIZE", "none")]);
        assert_eq!(settings.unwrap().queued_max, 2_048);
        assert!(complaints.contains("OTEL_BSP_MAX_QUEUE_SIZE"), "{complaints}");
        let (settings, complaints) = of(&[("OTEL_TRACES_SAMPLER", "jaeger_remote")]);
        assert_eq!(settings.unwrap().sampler, Sampler::of(true, RATIO));
        assert!(complaints.contains("jaeger_remote"), "{complaints}");
        let (settings, complaints) = of(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")]);
        assert!(settings.is_none() && complaints.contains("http/json"), "{complaints}");
        let (settings, complaints) =
            of(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://collector:4318")]);
        assert!(settings.is_none() && complaints.contains("grpc"), "{complaints}");
    }

    #[test]
    fn a_caller_decides_where_he_is_asked_and_the_ratio_elsewhere() {
        let low = u128::from(u64::MAX / 4);
        let high = u128::from(u64::MAX / 4 * 3);
        let half = Sampler::of(false, 0.5);
        assert!(half.samples(low, None) && half.samples(low, Some(false)));
        assert!(!half.samples(high, None) && !half.samples(high, Some(true)));
        let half = Sampler::of(true, 0.5);
        assert!(half.samples(low, None) && !half.samples(low, Some(false)));
        assert!(!half.samples(high, None) && half.samples(high, Some(true)));
        let (all, none) = (Sampler::of(true, 1.0), Sampler::of(true, 0.0));
        assert!(all.samples(u128::MAX, None) && !all.never_begins());
        assert!(!none.samples(1, None) && none.never_begins() && none.samples(1, Some(true)));
    }
}
