//! What the SDK does not tell and does not send: the store's clock, and MD5 where a store insists on it.

use std::sync::{Arc, OnceLock};

use aws_sdk_s3::{
    config::{ConfigBag, Intercept, RuntimeComponents},
    error::BoxError,
};
use aws_smithy_runtime_api::client::interceptors::{
    context::{BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextMut},
    dyn_dispatch_hint,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use md5::{Digest, Md5};

use crate::model::time::Timestamp;

/// Takes the `Date` of the answer to one request.
#[derive(Clone, Debug, Default)]
pub(super) struct Answered(Arc<OnceLock<Timestamp>>);

impl Answered {
    /// When the store answered. A store without a clock, of which none is known, answered in 1970: too early for anything to expire.
    pub(super) fn date(&self) -> Timestamp {
        let epoch = || Timestamp::from(chrono::DateTime::UNIX_EPOCH);
        self.0.get().copied().unwrap_or_else(epoch)
    }
}

#[dyn_dispatch_hint]
impl Intercept for Answered {
    fn name(&self) -> &'static str {
        "Answered"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|text| chrono::DateTime::parse_from_rfc2822(text).ok());
        if let Some(date) = date {
            // A failed try has been answered too, earlier; the first is the safe one.
            let _ = self.0.set(date.to_utc().into());
        }
        Ok(())
    }
}

/// Takes the name of the region where the bucket is, from a store that says it is not here.
#[derive(Clone, Debug, Default)]
pub(super) struct Elsewhere(Arc<OnceLock<String>>);

impl Elsewhere {
    /// The region, once a store has named it.
    pub(super) fn region(&self) -> Option<String> {
        self.0.get().cloned()
    }
}

#[dyn_dispatch_hint]
impl Intercept for Elsewhere {
    fn name(&self) -> &'static str {
        "Elsewhere"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // A redirection, or the complaint that the signature is for another region.
        let response = context.response();
        if matches!(response.status().as_u16(), 301 | 307 | 400)
            && let Some(region) = response.headers().get("x-amz-bucket-region")
        {
            let _ = self.0.set(region.to_owned());
        }
        Ok(())
    }
}

/// Asks for the stored checksum of what is read, without having the SDK check it: it would give up a stream that can go on.
#[derive(Debug)]
pub(super) struct WithStoredChecksum;

#[dyn_dispatch_hint]
impl Intercept for WithStoredChecksum {
    fn name(&self) -> &'static str {
        "WithStoredChecksum"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let headers = context.request_mut().headers_mut();
        headers.insert("x-amz-checksum-mode", "ENABLED");
        Ok(())
    }
}

/// What a batch deletion carries besides its MD5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BatchChecksum {
    /// The SDK's CRC.
    Crc,
    /// Nothing that an old store would refuse.
    Md5Only,
}

/// Puts the MD5 of the body into its header: many stores demand it of a batch deletion, as AWS did for fifteen years.
#[derive(Debug)]
pub(super) struct WithMd5(pub(super) BatchChecksum);

#[dyn_dispatch_hint]
impl Intercept for WithMd5 {
    fn name(&self) -> &'static str {
        "WithMd5"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let body = request.body().bytes().ok_or("the body is not in memory")?;
        let md5 = STANDARD.encode(Md5::digest(body));
        let headers = request.headers_mut();
        headers.insert("content-md5", md5);
        if self.0 == BatchChecksum::Md5Only {
            let names: Vec<String> = headers
                .iter()
                .map(|(name, _)| name.to_owned())
                .filter(|name| is_checksum(name))
                .collect();
            for name in names {
                headers.remove(name);
            }
        }
        Ok(())
    }
}

fn is_checksum(header: &str) -> bool {
    header.starts_with("x-amz-checksum-") || header == "x-amz-sdk-checksum-algorithm"
}
