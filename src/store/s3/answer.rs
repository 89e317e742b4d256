//! What the SDK's answers say, in the words of the port.

use aws_sdk_s3::{operation::head_object::HeadObjectOutput, types::Object};
use aws_smithy_types::DateTime;

use super::{
    super::{Checksum, ChecksumAlgorithm, Key, ObjectMeta, ObjectVersion},
    lock::told,
};
use crate::model::time::Timestamp;

pub(super) fn listed(key: Key, object: &Object) -> ObjectMeta {
    ObjectMeta {
        key,
        size: object
            .size()
            .and_then(|size| u64::try_from(size).ok())
            .unwrap_or_default(),
        last_modified: instant(object.last_modified()),
        version: version(object.e_tag()),
        checksum: None,
        lock: None,
    }
}

pub(super) fn headed(key: &Key, output: &HeadObjectOutput) -> ObjectMeta {
    let length = output.content_length().unwrap_or_default();
    ObjectMeta {
        key: key.clone(),
        size: u64::try_from(length).unwrap_or_default(),
        last_modified: instant(output.last_modified()),
        version: version(output.e_tag()),
        checksum: stored_checksum(&[
            (ChecksumAlgorithm::Crc32, output.checksum_crc32()),
            (ChecksumAlgorithm::Crc32c, output.checksum_crc32_c()),
            (ChecksumAlgorithm::Crc64Nvme, output.checksum_crc64_nvme()),
            (ChecksumAlgorithm::Sha1, output.checksum_sha1()),
            (ChecksumAlgorithm::Sha256, output.checksum_sha256()),
        ]),
        lock: told(output),
    }
}

pub(super) fn stored_checksum(told: &[(ChecksumAlgorithm, Option<&str>)]) -> Option<Checksum> {
    told.iter().find_map(|(algorithm, value)| {
        Some(Checksum {
            algorithm: *algorithm,
            value: (*value)?.to_owned(),
        })
    })
}

pub(super) fn version(entity_tag: Option<&str>) -> ObjectVersion {
    ObjectVersion::from_entity_tag(entity_tag)
}

pub(super) fn entity_tag(version: &ObjectVersion) -> String {
    version.entity_tag()
}

pub(super) fn instant(date: Option<&DateTime>) -> Timestamp {
    let date = date.map(|date| (date.secs(), date.subsec_nanos()));
    let (seconds, nanoseconds) = date.unwrap_or_default();
    let instant = chrono::DateTime::from_timestamp(seconds, nanoseconds);
    instant.unwrap_or_default().into()
}
