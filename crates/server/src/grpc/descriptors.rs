//! The public API as the descriptors have it: what reflection shows, what health and metrics are
//! told by.

use prost::Message as _;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use quorate_proto::DESCRIPTORS;
use std::collections::HashMap;
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

/// What of a method is a stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Streams {
    pub(super) requests: bool,
    pub(super) answers: bool,
}

/// What of a method, such as `quorate.v1.KvService/Watch`, is a stream.
pub(super) fn streams(path: &str) -> Streams {
    static STREAMS: LazyLock<HashMap<String, Streams>> = LazyLock::new(|| {
        let files = files();
        let services = files.iter().flat_map(|file| &file.service);
        services
            .flat_map(|service| {
                service.method.iter().map(|method| {
                    let (requests, answers) =
                        (method.client_streaming(), method.server_streaming());
                    let name = format!("{PACKAGE}.{}/{}", service.name(), method.name());
                    (name, Streams { requests, answers })
                })
            })
            .collect()
    });
    match STREAMS.get(path) {
        Some(streams) => *streams,
        // Of the two standard ones that are not ours, health has one request, reflection a stream.
        None if path.starts_with("grpc.reflection.") => Streams { requests: true, answers: true },
        None => Streams::default(),
    }
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

    #[test]
    fn it_is_known_what_is_a_stream() {
        let known = |path| {
            let Streams { requests, answers } = streams(path);
            (requests, answers)
        };
        assert_eq!(known("quorate.v1.KvService/Set"), (false, false));
        assert_eq!(known("quorate.v1.KvService/Watch"), (false, true));
        assert_eq!(known("quorate.v1.PipelineService/Open"), (true, true));
        assert_eq!(known("grpc.reflection.v1.ServerReflection/ServerReflectionInfo"), (true, true));
        assert_eq!(known("grpc.health.v1.Health/Check"), (false, false));
    }
}
