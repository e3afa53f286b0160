//! What the system tells of this process, under the names that every exporter has for it.

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{SysconfVar, sysconf};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use std::fmt;
use std::fs;

/// Descriptors that are counted at most; who has more has a limit above that as well.
const DESCRIPTORS_MAX: usize = 1 << 20;

/// Reads what the system tells whenever somebody asks. What it does not tell is not shown.
#[derive(Debug)]
pub(super) struct Process;

/// How a process is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    virtual_bytes: u64,
    resident_bytes: u64,
    /// After the start of the system.
    started_after_seconds: f64,
}

impl Stat {
    /// Of a line of `/proc/PID/stat`. The command in it may have anything in its name.
    fn parse(line: &str, ticks_per_second: f64, page_bytes: u64) -> Option<Self> {
        let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
        // Of the manual's numbers the first two are before the parenthesis.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let seconds = |ticks: u64| ticks as f64 / ticks_per_second;
        Some(Self {
            cpu_seconds: seconds(field(14)?.saturating_add(field(15)?)),
            started_after_seconds: seconds(field(22)?),
            virtual_bytes: field(23)?,
            resident_bytes: field(24)?.saturating_mul(page_bytes),
        })
    }

    fn read() -> Option<Self> {
        let value = |variable| u64::try_from(sysconf(variable).ok()??).ok();
        let ticks = value(SysconfVar::CLK_TCK)?.max(1);
        let page_bytes = value(SysconfVar::PAGE_SIZE)?;
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?, ticks as f64, page_bytes)
    }
}

/// When the system was started, in seconds of Unix time.
fn booted_unix_s() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

fn open_descriptors() -> Option<u64> {
    // Reading the directory takes one of its own.
    let open = fs::read_dir("/proc/self/fd").ok()?.take(DESCRIPTORS_MAX).count() as u64;
    Some(open.saturating_sub(1))
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (bytes, seconds) = (Some(&Unit::Bytes), Some(&Unit::Seconds));
        let mut gauge = |name: &str, help: &str, unit: Option<&Unit>, value: Option<f64>| {
            let Some(value) = value else { return Ok(()) };
            encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(&value)
        };
        let open = open_descriptors().map(|open| open as f64);
        gauge("process_open_fds", "Open file descriptors.", None, open)?;
        let limit = getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft as f64);
        gauge("process_max_fds", "File descriptors that may be open.", None, limit)?;
        let Some(stat) = Stat::read() else { return Ok(()) };
        let help = "Memory that is in use, without what is swapped out.";
        let resident = Some(stat.resident_bytes as f64);
        gauge("process_resident_memory", help, bytes, resident)?;
        let help = "Addresses that are taken.";
        gauge("process_virtual_memory", help, bytes, Some(stat.virtual_bytes as f64))?;
        let started = booted_unix_s().map(|booted| booted + stat.started_after_seconds);
        gauge("process_start_time", "When the process was started.", seconds, started)?;
        let help = "Processor time that was used.";
        let mut cpu =
            encoder.encode_descriptor("process_cpu", help, seconds, MetricType::Counter)?;
        cpu.encode_counter::<NoLabelSet, _, u64>(&stat.cpu_seconds, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_system_is_read_whatever_the_command_is_called() {
        let line = "4711 (a (b) c) S 1 4711 4711 0 -1 4194560 2 3 4 5 250 50 7 8 20 0 33 0 \
                    12345 987654321 2048 18446744073709551615 1 1";
        let expected = Stat {
            cpu_seconds: 3.0,
            virtual_bytes: 987_654_321,
            resident_bytes: 2_048 * 4_096,
            started_after_seconds: 123.45,
        };
        assert_eq!(Stat::parse(line, 100.0, 4_096), Some(expected));
        assert_eq!(Stat::parse("4711 (cut) S 1 4711", 100.0, 4_096), None);
        assert_eq!(Stat::parse("", 100.0, 4_096), None);
    }

    #[test]
    fn this_process_is_read() {
        let stat = Stat::read().expect("the system tells");
        assert!(stat.resident_bytes > 1 << 20 && stat.virtual_bytes > stat.resident_bytes);
        let before = open_descriptors().expect("the system tells");
        let held = fs::File::open("/proc/self/stat").expect("it is there");
        // Other tests of this program open and close files meanwhile.
        assert!(open_descriptors().expect("the system tells") > 0 && before > 0);
        drop(held);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.expect("it is after 1970").as_secs_f64();
        let started = booted_unix_s().expect("the system tells") + stat.started_after_seconds;
        assert!(started < now + 2.0 && started > now - 86_400.0, "{started} and {now}");
    }
}
