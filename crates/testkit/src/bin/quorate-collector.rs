//! Takes traces and throws them away: something for nodes to send them to while they are measured. Says how
//! many spans came when stdin ends.
//!
//! `quorate-collector 127.0.0.1:4317`

use quorate_testkit::collector::{Collector, Speaks};
use tokio::io::AsyncReadExt as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4317".to_owned());
    let collector = Collector::listen(&addr, Speaks::Grpc).await?;
    let mut said = Vec::new();
    tokio::io::stdin().read_to_end(&mut said).await?;
    #[allow(clippy::print_stdout, reason = "it is what the program is for")]
    {
        println!("{}", collector.count());
    }
    Ok(())
}
