//! A program that brings its broker along, and counts how often it was started.
//!
//! `cargo run --release -p quorate-testkit --example embedded -- broker-data`, several times.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use anyhow::Result;
use quorate_client::Client;
use quorate_server::Node;
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<()> {
    let directory = std::env::args().nth(1).unwrap_or_else(|| "broker-data".to_owned());
    let node = Node::builder().data_dir(directory).start().await?;
    println!("clients connect to {}", node.client_addr());

    let client = Client::builder().endpoints(node.endpoints()).connect()?;
    let starts = client.kv().increment("starts", 1).await?.value;
    println!("started {starts} times");

    node.shutdown(Duration::from_secs(10)).await?;
    Ok(())
}
