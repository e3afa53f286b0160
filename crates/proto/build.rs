//! Compiles the `.proto` files with protox, so that no `protoc` is needed.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let files = [
        "quorate/v1/kv.proto",
        "quorate/v1/session.proto",
        "quorate/v1/cluster.proto",
        "quorate/peer/v1/peer.proto",
    ];
    println!("cargo::rerun-if-changed={}", root.display());
    let descriptors = protox::compile(files, [&root])?;
    // Payloads are shared, not copied, from the socket's buffer.
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
