//! The public API as the descriptors have it: what reflection shows, what health and metrics are
//! told by.

use prost::Message as _;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use quorate_proto::DESCRIPTORS;
use std::collections::HashSet;
use std::sync::LazyLock;

/// The package of the public API. The nodes' own service is in another one, and on another port.
pub(super) const PACKAGE: &str = "quorate.v1";

/// The files of the public API.
pub(super) fn files() -> Vec<FileDescriptorProto> {
    let all = FileDescriptorSet::decode(DESCRIPTORS).expect("the build made the descriptors");
    all.file.into_iter().filter(|file| file.package() == PACKAGE).collect()
}

/// The full names of the public services.
pub(super) fn services() -> Vec<String> {
    let files = files();
    let services = files.iter().flat_map(|file| &file.service);
    services.map(|service| format!("{PACKAGE}.{}", service.name())).collect()
}

/// The public methods, such as `KvService/Get`.
pub(crate) fn public_methods() -> Vec<String> {
    let files = files();
    let services = files.iter().flat_map(|file| &file.service);
    services
        .flat_map(|service| {
            let methods = service.method.iter();
            methods.map(|method| format!("{}/{}", service.name(), method.name()))
        })
        .collect()
}

/// Whether the answers of a method, such as `quorate.v1.KvService/Watch`, are a stream.
pub(super) fn answers_in_a_stream(path: &str) -> bool {
    static STREAMS: LazyLock<HashSet<String>> = LazyLock::new(|| {
        let files = files();
        let services = files.iter().flat_map(|file| &file.service);
        services
            .flat_map(|service| {
                let streams = service.method.iter().filter(|method| method.server_streaming());
                streams.map(|method| format!("{PACKAGE}.{}/{}", service.name(), method.name()))
            })
            .collect()
    });
    STREAMS.contains(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_services_are_there_and_the_private_one_is_not() {
        let services = services();
        assert!(services.contains(&"quorate.v1.KvService".to_owned()), "{services:?}");
        assert!(!services.iter().any(|service| service.contains("Peer")), "{services:?}");
        assert!(public_methods().contains(&"PipelineService/Open".to_owned()));
    }
}
