//! `quorate cluster promote`, `remove` and `replace`: plans, and waiting until they are carried out.

use super::{add, plan_text};
use crate::connect::Connect;
use crate::duration;
use crate::exit::Failure;
use crate::output::Output;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use quorate_client::{Client, MemberPlan, Members, Status};
use serde_json::json;
use std::time::{Duration, Instant};

/// How often it is looked whether a plan is carried out.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Exit status when something is planned and not done in time: as when nobody answers in time.
const STILL_PLANNED: u8 = 5;

/// Whether a node votes; none when it is no member.
fn voter(members: &Members, node: u64) -> Option<bool> {
    let member = members.members.iter().find(|member| member.node_id == node);
    member.map(|member| member.voter)
}

/// How long a command stays.
#[derive(Debug, Args)]
struct Waiting {
    /// How long to wait until it is done; the leader goes on afterwards as well
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration::parse)]
    wait: Duration,
}

/// `quorate cluster promote`.
#[derive(Debug, Args)]
pub(super) struct Promote {
    /// The id of the member
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    node: u64,
    #[command(flatten)]
    waiting: Waiting,
}

/// `quorate cluster remove`.
#[derive(Debug, Args)]
pub(super) struct Remove {
    /// The id of the member
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    node: u64,
    #[command(flatten)]
    waiting: Waiting,
}

/// `quorate cluster replace`.
#[derive(Debug, Args)]
pub(super) struct Replace {
    /// The id of the member that leaves, also when it is down
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    node: u64,
    /// The id of a member without a vote that takes its place; without it, a token is printed for a
    /// node that is to join
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    with: Option<u64>,
    /// How long the token holds, 1s to 168h
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration::parse_positive)]
    ttl: Duration,
    #[command(flatten)]
    waiting: Waiting,
}

impl Promote {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let Self { node, waiting } = self;
        connect.run(async |client| {
            client.cluster().promote(node, None).await?;
            let votes = |members: &Members| voter(members, node) == Some(true);
            waiting.until_done(&client, &[node], votes, output).await
        })?;
        output.result(|| json!({ "promoted": node }), || format!("node {node} votes"))
    }
}

impl Remove {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let Self { node, waiting } = self;
        connect.run(async |client| {
            client.cluster().remove(node).await?;
            let left = |members: &Members| voter(members, node).is_none();
            waiting.until_done(&client, &[node], left, output).await
        })?;
        output.result(|| json!({ "removed": node }), || format!("node {node} has left"))
    }
}

impl Replace {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let Self { node, with, ttl, waiting } = self;
        let Some(with) = with else { return add::invite(connect, output, ttl, Some(node)) };
        connect.run(async |client| {
            client.cluster().promote(with, Some(node)).await?;
            let taken = |members: &Members| {
                voter(members, with) == Some(true) && voter(members, node).is_none()
            };
            waiting.until_done(&client, &[with, node], taken, output).await
        })?;
        output.result(
            || json!({ "removed": node, "promoted": with }),
            || format!("node {with} votes in place of node {node}, which has left"),
        )
    }
}

impl Waiting {
    /// Waits until the members are as they are to be, and nothing is planned for these nodes any more.
    async fn until_done(
        &self,
        client: &Client,
        nodes: &[u64],
        so: impl Fn(&Members) -> bool,
        output: Output,
    ) -> Result<(), Failure> {
        let bar = if output.is_json() { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        let style = ProgressStyle::with_template("{spinner} {msg} [{elapsed}]");
        bar.set_style(style.expect("the template is right"));
        bar.enable_steady_tick(LOOK_EVERY);
        let until = Instant::now() + self.wait;
        let mut progress = Progress::default();
        loop {
            let members = client.cluster().members().await?;
            let plan = members.plans.iter().find(|plan| nodes.contains(&plan.node_id));
            // A node that answers may not have applied the plan yet.
            if plan.is_none() && so(&members) {
                bar.finish_and_clear();
                return Ok(());
            }
            if Instant::now() >= until {
                bar.finish_and_clear();
                return Err(Failure::Run {
                    status: STILL_PLANNED,
                    reason: "STILL_PLANNED",
                    message: format!(
                        "it is planned, and not done after {}; the leader goes on, and quorate cluster \
                         members shows when it is done",
                        duration::text(self.wait)
                    ),
                });
            }
            if let Some(plan) = plan {
                let status = client.cluster().status().await?;
                bar.set_message(format!("{}{}", plan_text(plan), progress.of(plan, &status)));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// How fast a node catches up.
#[derive(Default)]
struct Progress {
    /// When and how far behind it was seen first.
    first: Option<(Instant, u64)>,
}

impl Progress {
    /// How far the node of a plan is behind the leader, and how long that will take.
    fn of(&mut self, plan: &MemberPlan, status: &Status) -> String {
        let last = |id| status.nodes.iter().find(|node| Some(node.node_id) == id)?.last_log;
        let Some(end) = last(status.leader_id) else { return ", there is no leader".to_owned() };
        let Some(reached) = last(Some(plan.node_id)) else {
            return ", which does not answer yet".to_owned();
        };
        let behind = end.saturating_sub(reached);
        let (since, first) = *self.first.get_or_insert_with(|| (Instant::now(), behind));
        let caught_up = first.saturating_sub(behind);
        if behind == 0 || caught_up == 0 {
            return format!(", {behind} entries behind");
        }
        let left = since.elapsed().mul_f64(behind as f64 / caught_up as f64);
        format!(", {behind} entries behind, some {} left", duration::rough(left))
    }
}
