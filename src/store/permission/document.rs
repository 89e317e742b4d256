//! The permissions of a role as each cloud wants them written down.
//!
//! Each document is what the cloud's own tools read: an IAM policy, an Azure custom role, a Google Cloud custom role. What a document cannot say is in
//! its notes.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Cloud, Feature,
    role::{Part, Role},
};
use crate::model::{
    desired::{Destination, ProviderOptions, S3Encryption, S3Options},
    location::Location,
};

/// What a role needs on a destination.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Document {
    /// What the cloud's tools read.
    pub document: Value,
    /// What it leaves to whoever applies it.
    pub notes: Vec<String>,
}

/// The document for a role on a destination; `None` for a directory, which has the rights of its file system.
pub fn document(role: Role, destination: &Destination) -> Option<Document> {
    let features = features(&destination.provider);
    match (&destination.location, &destination.provider) {
        (Location::Directory { .. }, _) => None,
        (Location::S3 { bucket, prefix }, provider) => {
            let needed = needed(role, Cloud::Aws, &features);
            Some(aws(&needed, bucket, prefix, provider))
        }
        (
            Location::Azure {
                container, prefix, ..
            },
            _,
        ) => {
            let needed = needed(role, Cloud::Azure, &features);
            Some(azure(role, &needed, container, prefix))
        }
        (Location::Gcs { bucket, prefix }, _) => {
            let needed = needed(role, Cloud::Google, &features);
            Some(google(role, &needed, bucket, prefix))
        }
    }
}

fn features(provider: &ProviderOptions) -> Vec<Feature> {
    let unset = BTreeMap::new();
    let (tags, has_key) = match provider {
        ProviderOptions::S3(options) => (
            &options.tags,
            matches!(options.encryption, Some(S3Encryption::Kms { .. })),
        ),
        ProviderOptions::Azure(options) => (&options.tags, false),
        ProviderOptions::Gcs(options) => (&options.tags, options.kms_key.is_some()),
        ProviderOptions::Directory => (&unset, false),
    };
    let is_tagged = !tags.is_empty() || provider.history_tags().is_some();
    let tags = is_tagged.then_some(Feature::Tags);
    let key = has_key.then_some(Feature::Key);
    tags.into_iter().chain(key).collect()
}

type Needed = BTreeMap<Part, BTreeSet<&'static str>>;

/// The permissions on each part of the catalog, without those that are granted on all of it.
fn needed(role: Role, cloud: Cloud, features: &[Feature]) -> Needed {
    let mut needed = Needed::new();
    for grant in role.grants() {
        let permissions = needed.entry(grant.part).or_default();
        for operation in grant.operations {
            permissions.extend(operation.permissions(cloud));
            for feature in features {
                permissions.extend(operation.permissions_for(*feature, cloud));
            }
        }
    }
    let whole = needed.get(&Part::Whole).cloned().unwrap_or_default();
    for (part, permissions) in &mut needed {
        if *part != Part::Whole {
            permissions.retain(|permission| !whole.contains(permission));
        }
    }
    needed.retain(|_, permissions| !permissions.is_empty());
    needed
}

/// Permissions on a bucket that can be narrowed to a prefix.
const LISTING: [&str; 2] = ["s3:ListBucket", "s3:ListBucketMultipartUploads"];

fn aws(needed: &Needed, bucket: &str, prefix: &str, provider: &ProviderOptions) -> Document {
    let unset = S3Options::default();
    let options = match provider {
        ProviderOptions::S3(options) => options,
        _ => &unset,
    };
    let partition = match options.region.as_deref() {
        Some(region) if region.starts_with("cn-") => "aws-cn",
        Some(region) if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    };
    let bucket = format!("arn:{partition}:s3:::{bucket}");
    let root = if prefix.is_empty() {
        bucket.clone()
    } else {
        format!("{bucket}/{prefix}")
    };
    let mut statements = Vec::new();
    for (part, permissions) in needed {
        let of = |wanted: fn(&str) -> bool| -> Vec<&str> {
            let matching = permissions.iter().copied();
            matching.filter(|permission| wanted(permission)).collect()
        };
        let listing = of(|permission| LISTING.contains(&permission));
        if !listing.is_empty() {
            let mut statement = allow(&listing, &json!(bucket));
            if !prefix.is_empty() {
                // Without "if exists" an object that is not there would be refused: its request has no prefix.
                let below = json!({ "StringLikeIfExists": { "s3:prefix": format!("{prefix}/*") } });
                statement["Condition"] = below;
            }
            statements.push(statement);
        }
        let settings = of(is_of_bucket);
        if !settings.is_empty() {
            statements.push(allow(&settings, &json!(bucket)));
        }
        let objects = of(|permission| {
            permission.starts_with("s3:")
                && !LISTING.contains(&permission)
                && !is_of_bucket(permission)
        });
        if !objects.is_empty() {
            let objects = allow(&objects, &json!(format!("{root}/{}", part.pattern())));
            statements.push(objects);
        }
        let key = of(|permission| permission.starts_with("kms:"));
        if !key.is_empty() {
            statements.push(of_key(&key, options, partition));
        }
    }
    Document {
        document: json!({ "Version": "2012-10-17", "Statement": statements }),
        notes: Vec::new(),
    }
}

fn is_of_bucket(permission: &str) -> bool {
    permission.starts_with("s3:GetBucket") || permission == "s3:GetLifecycleConfiguration"
}

fn allow(actions: &[&str], resource: &Value) -> Value {
    json!({ "Effect": "Allow", "Action": actions, "Resource": resource })
}

/// A policy names keys by their ARN only; an alias is a condition.
fn of_key(actions: &[&str], options: &S3Options, partition: &str) -> Value {
    let key = match &options.encryption {
        Some(S3Encryption::Kms { key }) => key.as_deref(),
        _ => None,
    };
    match key {
        Some(arn) if arn.contains(":key/") => allow(actions, &json!(arn)),
        Some(key) if !key.contains("alias/") => {
            let arn = format!("arn:{partition}:kms:*:*:key/{key}");
            allow(actions, &json!(arn))
        }
        Some(alias) => {
            let name = alias.rfind("alias/").map_or(alias, |at| &alias[at..]);
            let mut statement = allow(actions, &json!("*"));
            statement["Condition"] =
                json!({ "ForAnyValue:StringEquals": { "kms:ResourceAliases": name } });
            statement
        }
        None => {
            let mut statement = allow(actions, &json!("*"));
            statement["Condition"] =
                json!({ "StringLike": { "kms:ViaService": "s3.*.amazonaws.com" } });
            statement
        }
    }
}

fn azure(role: Role, needed: &Needed, container: &str, prefix: &str) -> Document {
    let all: BTreeSet<&str> = needed.values().flatten().copied().collect();
    let (data, control): (Vec<&str>, Vec<&str>) = all
        .into_iter()
        .partition(|permission| permission.contains("/blobs/"));
    let mut notes = vec![format!(
        "assign the role on the container `{container}` only"
    )];
    if !prefix.is_empty() {
        let path =
            "@Resource[Microsoft.Storage/storageAccounts/blobServices/containers/blobs:path]";
        notes.push(format!(
            "a condition narrows the assignment to the prefix: {path} StringLike '{prefix}/*'"
        ));
    }
    notes.extend(parts(needed));
    Document {
        document: json!({
            "Name": format!("barkeep {role}"),
            "IsCustom": true,
            "Description": format!("What barkeep needs as {role}"),
            "Actions": control,
            "NotActions": [],
            "DataActions": data,
            "NotDataActions": [],
            "AssignableScopes": ["/subscriptions/SUBSCRIPTION/resourceGroups/GROUP"],
        }),
        notes,
    }
}

fn google(role: Role, needed: &Needed, bucket: &str, prefix: &str) -> Document {
    let all: BTreeSet<&str> = needed.values().flatten().copied().collect();
    let mut notes = vec![format!("bind the role on the bucket `{bucket}` only")];
    if !prefix.is_empty() {
        notes.push(format!(
            "a condition narrows the binding of all but `storage.objects.list` and \
             `storage.buckets.get` to the prefix: \
             resource.name.startsWith(\"projects/_/buckets/{bucket}/objects/{prefix}/\")"
        ));
    }
    notes.extend(parts(needed));
    Document {
        document: json!({
            "title": format!("barkeep {role}"),
            "description": format!("What barkeep needs as {role}"),
            "stage": "GA",
            "includedPermissions": all,
        }),
        notes,
    }
}

/// What is needed on a part of the catalog only, where a role cannot say so.
fn parts(needed: &Needed) -> impl Iterator<Item = String> {
    let narrow = needed.iter().filter(|(part, _)| **part != Part::Whole);
    narrow.map(|(part, permissions)| {
        let permissions: Vec<&str> = permissions.iter().copied().collect();
        let (permissions, pattern) = (permissions.join("` and `"), part.pattern());
        format!("`{permissions}` is needed only on `{pattern}` below the prefix")
    })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::model::{desired::ObjectLock, names::DestinationName};

    fn written(role: Role, url: &str, options: S3Options) -> Document {
        let location: Location = url.parse().expect("a location");
        let destination = Destination {
            name: DestinationName::parse("primary").expect("a name"),
            location,
            provider: ProviderOptions::S3(options),
            max_bandwidth: None,
            max_parallel: NonZeroUsize::MIN,
            object_lock: ObjectLock::Respect,
            control: None,
        };
        document(role, &destination).expect("a document")
    }

    #[test]
    fn a_reader_may_list_and_read_below_the_prefix() {
        let reader = written(Role::Reader, "s3://acme-pg/prod", S3Options::default());
        let expected = json!({
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Action": ["s3:ListBucket"],
                    "Resource": "arn:aws:s3:::acme-pg",
                    "Condition": { "StringLikeIfExists": { "s3:prefix": "prod/*" } },
                },
                {
                    "Effect": "Allow",
                    "Action": ["s3:GetObject"],
                    "Resource": "arn:aws:s3:::acme-pg/prod/*",
                },
            ],
        });
        assert_eq!(reader.document, expected);
        let reader = written(Role::Reader, "s3://acme-pg", S3Options::default()).document;
        assert_eq!(reader["Statement"][0].get("Condition"), None);
        assert_eq!(reader["Statement"][1]["Resource"], "arn:aws:s3:::acme-pg/*");
    }

    /// Where a role may do something.
    fn places(role: Role, action: &str) -> Vec<String> {
        let options = S3Options {
            region: Some("cn-north-1".to_owned()),
            ..S3Options::default()
        };
        let document = written(role, "s3://b/p", options).document;
        let statements = document["Statement"].as_array().expect("statements");
        let allowing = statements.iter().filter(|statement| {
            let actions = statement["Action"].as_array().expect("actions");
            actions.iter().any(|found| found == action)
        });
        let place = |statement: &Value| statement["Resource"].as_str().map(str::to_owned);
        allowing.filter_map(place).collect()
    }

    #[test]
    fn a_writer_deletes_no_backup_and_a_deleter_writes_none() {
        let writer = places(Role::Writer, "s3:DeleteObject");
        assert_eq!(
            writer,
            [
                "arn:aws-cn:s3:::b/p/*/barkeep/attempts/*",
                "arn:aws-cn:s3:::b/p/*/barkeep/probe/*",
            ]
        );
        let deleter = places(Role::Deleter, "s3:PutObject");
        assert_eq!(
            deleter,
            [
                "arn:aws-cn:s3:::b/p/*/barkeep/*",
                "arn:aws-cn:s3:::b/p/*/base/*/annotations/*",
            ]
        );
        assert!(places(Role::Reader, "s3:PutObject").is_empty());
        assert!(places(Role::Writer, "s3:PutObjectTagging").is_empty());
    }

    #[test]
    fn a_key_is_named_as_a_policy_can() {
        let cases = [
            (None, "*", "kms:ViaService"),
            (Some("alias/pg"), "*", "kms:ResourceAliases"),
            (Some("arn:aws:kms:r:1:alias/pg"), "*", "kms:ResourceAliases"),
            (Some("1234"), "arn:aws:kms:*:*:key/1234", ""),
            (
                Some("arn:aws:kms:r:1:key/1234"),
                "arn:aws:kms:r:1:key/1234",
                "",
            ),
        ];
        for (key, resource, condition) in cases {
            let options = S3Options {
                encryption: Some(S3Encryption::Kms {
                    key: key.map(str::to_owned),
                }),
                ..S3Options::default()
            };
            let document = written(Role::Reader, "s3://b", options).document;
            let statement = &document["Statement"][2];
            assert_eq!(statement["Action"], json!(["kms:Decrypt"]), "{key:?}");
            assert_eq!(statement["Resource"], resource, "{key:?}");
            let text = statement.to_string();
            assert!(text.contains(condition), "{text}");
        }
    }

    #[test]
    fn other_clouds_have_roles_of_their_own() {
        let url = "https://acme.blob.core.windows.net/pg/prod";
        let azure = written(Role::Reader, url, S3Options::default());
        let read = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read";
        assert_eq!(azure.document["DataActions"], json!([read]));
        assert_eq!(azure.document["Actions"], json!([]));
        let google = written(Role::Reader, "gs://acme-pg/prod", S3Options::default());
        assert_eq!(
            google.document["includedPermissions"],
            json!(["storage.objects.get", "storage.objects.list"])
        );
        assert!(google.notes[1].contains("objects/prod/"));
    }
}
