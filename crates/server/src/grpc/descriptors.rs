//! The public API as the descriptors have it: what reflection shows, what health and metrics are
//! told by.

use prost::Message as _;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use quorate_proto::DESCRIPTORS;

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
