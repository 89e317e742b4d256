//! Which permissions a call needs on each cloud, in the cloud's own words.
//!
//! One table serves two: a refused call names what it missed, and `barkeep permissions` asks for the same, so the two cannot drift
//! apart. Every operation is in it for every cloud, also where a cloud needs nothing for it. Whether a permission is granted is
//! never asked of the cloud: what is missing shows in a refusal.
//!
//! Sources: the *Actions defined by* page of Amazon S3 in the AWS service authorization reference, *Permissions for blob service operations* in
//! Azure's REST reference, *IAM permissions for JSON methods* of Google Cloud Storage.

use std::{error::Error, sync::Arc};

use super::Operation;
pub use crate::cloud::{Cloud, Principal, abbreviated};

mod document;
mod role;

pub use document::{Document, document};
pub use role::{Grant, Part, Role};

/// What a destination is configured with that some of its calls need more permissions for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// Tags on what is written.
    Tags,
    /// Encryption with a key of the cloud's key management.
    Key,
}

impl Operation {
    /// The permissions without which a cloud refuses the call, the most telling first.
    pub fn permissions(self, cloud: Cloud) -> &'static [&'static str] {
        match cloud {
            Cloud::Aws => aws(self),
            Cloud::Azure => azure(self),
            Cloud::Google => google(self),
        }
    }

    /// Those that it needs besides where the destination is configured so.
    pub fn permissions_for(self, feature: Feature, cloud: Cloud) -> &'static [&'static str] {
        match (cloud, feature, self) {
            (Cloud::Aws, Feature::Tags, Self::Put | Self::BeginUpload) => &["s3:PutObjectTagging"],
            // The parts of an upload are encrypted and, when they are joined, decrypted.
            (
                Cloud::Aws,
                Feature::Key,
                Self::Put | Self::BeginUpload | Self::PutPart | Self::CompleteUpload,
            ) => &["kms:GenerateDataKey", "kms:Decrypt"],
            // The stored checksum is encrypted too.
            (Cloud::Aws, Feature::Key, Self::Get | Self::Head) => &["kms:Decrypt"],
            (Cloud::Azure, Feature::Tags, Self::Put | Self::CompleteUpload) => &[AZURE_TAGS_WRITE],
            // On Google Cloud tags are metadata, and keys are used by the storage service's own account.
            _ => &[],
        }
    }
}

fn aws(operation: Operation) -> &'static [&'static str] {
    match operation {
        Operation::Put
        | Operation::BeginUpload
        | Operation::PutPart
        | Operation::CompleteUpload => &["s3:PutObject"],
        // Without the right to list, what is not there is refused instead of missing.
        Operation::Get | Operation::Head => &["s3:GetObject", "s3:ListBucket"],
        Operation::List | Operation::CheckReachable | Operation::Time => &["s3:ListBucket"],
        Operation::Delete => &["s3:DeleteObject"],
        Operation::AbortUpload => &["s3:AbortMultipartUpload"],
        Operation::ListUploads => &["s3:ListBucketMultipartUploads"],
        Operation::Locks => &[
            "s3:GetObjectRetention",
            "s3:GetObjectLegalHold",
            "s3:GetBucketObjectLockConfiguration",
            "s3:GetObject",
            "s3:ListBucket",
        ],
        Operation::Retention => &[
            "s3:GetBucketObjectLockConfiguration",
            "s3:GetBucketVersioning",
            "s3:GetLifecycleConfiguration",
        ],
        Operation::CreateDestination => &["s3:CreateBucket", "s3:ListBucket"],
        Operation::Open => &[],
    }
}

const AZURE_READ: &str = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read";
const AZURE_WRITE: &str = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write";
const AZURE_DELETE: &str = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/delete";
const AZURE_TAGS_WRITE: &str =
    "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/tags/write";
const AZURE_CONTAINER: &str = "Microsoft.Storage/storageAccounts/blobServices/containers/read";
const AZURE_SERVICE: &str = "Microsoft.Storage/storageAccounts/blobServices/read";
const AZURE_CREATE: &str = "Microsoft.Storage/storageAccounts/blobServices/containers/write";

fn azure(operation: Operation) -> &'static [&'static str] {
    match operation {
        Operation::Put
        | Operation::BeginUpload
        | Operation::PutPart
        | Operation::CompleteUpload => &[AZURE_WRITE],
        Operation::Get
        | Operation::Head
        | Operation::List
        | Operation::ListUploads
        | Operation::CheckReachable
        | Operation::Time => &[AZURE_READ],
        Operation::Locks => &[AZURE_CONTAINER, AZURE_READ],
        Operation::Retention => &[AZURE_CONTAINER, AZURE_SERVICE],
        Operation::Delete => &[AZURE_DELETE],
        // Blocks of an upload that is given up vanish by themselves.
        Operation::AbortUpload | Operation::Open => &[],
        Operation::CreateDestination => &[AZURE_CREATE],
    }
}

fn google(operation: Operation) -> &'static [&'static str] {
    match operation {
        // What replaces an object deletes the one before.
        Operation::Put | Operation::CompleteUpload => {
            &["storage.objects.create", "storage.objects.delete"]
        }
        Operation::BeginUpload => &["storage.multipartUploads.create", "storage.objects.create"],
        Operation::PutPart => &["storage.objects.create"],
        // Without the right to list, what is not there is refused instead of missing.
        Operation::Get | Operation::Head => &["storage.objects.get", "storage.objects.list"],
        Operation::List | Operation::CheckReachable | Operation::Time => &["storage.objects.list"],
        // Parts of an upload with a condition are objects.
        Operation::ListUploads => &["storage.multipartUploads.list", "storage.objects.list"],
        Operation::AbortUpload => &["storage.multipartUploads.abort", "storage.objects.delete"],
        Operation::Locks => &["storage.objects.list", "storage.objects.get"],
        Operation::Retention => &["storage.buckets.get"],
        Operation::Delete => &["storage.objects.delete"],
        Operation::CreateDestination => &["storage.buckets.create"],
        Operation::Open => &[],
    }
}

/// What a refused principal lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// A permission for what it asked for; the cloud does not say which.
    Permission,
    /// This permission, says the cloud.
    Named(String),
    /// The cloud's belief that it is who it says: the key is unknown, has expired, or signs wrongly.
    Recognition,
}

/// Why a cloud refused a call, with what the cloud itself said as its source.
#[derive(Debug, thiserror::Error)]
#[error("{principal} {}", lacks(.lack, .operation.permissions(.principal.cloud)))]
pub(super) struct Refusal {
    pub(super) principal: Principal,
    pub(super) lack: Lack,
    pub(super) operation: Operation,
    pub(super) source: Option<Arc<dyn Error + Send + Sync>>,
}

fn lacks(lack: &Lack, permissions: &[&str]) -> String {
    match (lack, permissions) {
        (Lack::Recognition, _) => "is not accepted".to_owned(),
        (Lack::Named(permission), _) => format!("needs `{permission}`"),
        (Lack::Permission, []) => "may not do that".to_owned(),
        (Lack::Permission, permissions) => format!("needs `{}`", permissions.join("` and `")),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Error, Key, Meaning},
        *,
    };
    use crate::failure::chain;

    fn refused(meaning: Meaning, lack: Lack) -> String {
        let principal = Principal {
            cloud: Cloud::Aws,
            name: "access key `AKIA…MPLE`".to_owned(),
            origin: "profile `pg`".to_owned(),
        };
        let error = Error::new(meaning, Operation::Delete, "s3://b/p")
            .about(&Key::verbatim("srv/x"))
            .because("the store's own words");
        chain(&error.refusing(&principal, lack))
    }

    #[test]
    fn a_refusal_names_who_was_refused_what_and_the_missing_permission() {
        assert_eq!(
            refused(Meaning::PermissionDenied, Lack::Permission),
            "cannot delete `srv/x` in `s3://b/p`: permission denied: AWS access key `AKIA…MPLE` \
             from profile `pg` needs `s3:DeleteObject`: the store's own words"
        );
        assert_eq!(
            refused(Meaning::PermissionDenied, Lack::Recognition),
            "cannot delete `srv/x` in `s3://b/p`: permission denied: AWS access key `AKIA…MPLE` \
             from profile `pg` is not accepted: the store's own words"
        );
        let named = Lack::Named("kms:Decrypt".to_owned());
        assert!(refused(Meaning::PermissionDenied, named).contains("needs `kms:Decrypt`: "));
        assert_eq!(
            refused(Meaning::Locked, Lack::Permission),
            "cannot delete `srv/x` in `s3://b/p`: it is locked: the store's own words"
        );
    }
}
