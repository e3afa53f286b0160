//! Compiles the `.proto` files with protox, so that no `protoc` is needed. `proto` here is a link to them, so
//! that they go along into the package.

use prost::Message as _;
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Asked when it runs: the build directory may have been used by another checkout before.
    let crate_dir = std::env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo sets it")?;
    let root = Path::new(&crate_dir).join("proto").canonicalize()?;
    let files = [
        "quorate/v1/kv.proto",
        "quorate/v1/session.proto",
        "quorate/v1/lock.proto",
        "quorate/v1/queue.proto",
        "quorate/v1/cache.proto",
        "quorate/v1/bus.proto",
        "quorate/v1/cluster.proto",
        "quorate/v1/auth.proto",
        "quorate/v1/txn.proto",
        "quorate/v1/pipeline.proto",
        "quorate/peer/v1/peer.proto",
    ];
    println!("cargo::rerun-if-changed={}", root.display());
    let descriptors = protox::compile(files, [&root])?;
    let out = std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    std::fs::write(Path::new(&out).join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // Payloads are shared, not copied, from the socket's buffer.
        .bytes(".")
        .codec_path("crate::codec::BoundedCodec")
        .compile_fds(descriptors)?;
    Ok(())
}
