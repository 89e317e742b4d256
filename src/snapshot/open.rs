//! From a place to the cloud that is asked there: the one place that knows every provider. Opening contacts nobody.

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use super::{Error, Provider, Result};
use crate::{model::snapshot::Place, secret::Secret};

/// Whoever opens clouds.
#[async_trait]
pub trait Clouds: fmt::Debug + Send + Sync {
    /// Opens the cloud of a place.
    async fn open(&self, place: &Place) -> Result<Arc<dyn Provider>>;
}

/// The clouds that there are.
#[derive(Clone, Copy, Debug)]
pub struct AllClouds;

#[async_trait]
impl Clouds for AllClouds {
    async fn open(&self, place: &Place) -> Result<Arc<dyn Provider>> {
        open(place).await
    }
}

/// A stand-in of a cloud, whatever the environment says of the cloud.
pub struct StandIn {
    /// Where it is.
    pub url: String,
    /// What every request to it carries: a token, or what signs.
    pub secret: Secret,
}

/// Opens a place.
pub async fn open(place: &Place) -> Result<Arc<dyn Provider>> {
    // The SDK's search for credentials is a large future.
    Box::pin(open_in(place, None)).await
}

/// Opens a place in a stand-in of its cloud.
pub async fn open_at(place: &Place, stand_in: &StandIn) -> Result<Arc<dyn Provider>> {
    Box::pin(open_in(place, Some(stand_in))).await
}

async fn open_in(place: &Place, at: Option<&StandIn>) -> Result<Arc<dyn Provider>> {
    match place {
        Place::Aws { profile, region } => aws((profile.as_deref(), region.as_deref()), at).await,
        Place::Azure {
            subscription,
            resource_group,
            credential,
        } => {
            let cloud = "Azure";
            let what = "a subscription";
            let missing = Error::Missing { cloud, what };
            let subscription = subscription.as_deref().ok_or(missing)?;
            let what = "a resource group";
            let missing = Error::Missing { cloud, what };
            let group = resource_group.as_deref().ok_or(missing)?;
            azure((subscription, group), *credential, at)
        }
        Place::Gcp { project, zone } => {
            let (cloud, what) = ("Google Cloud", "a project");
            let project = project.as_deref();
            let project = project.ok_or(Error::Missing { cloud, what })?;
            google(project, zone.as_deref(), at)
        }
    }
}

#[cfg(feature = "aws-ebs")]
async fn aws(
    place: (Option<&str>, Option<&str>),
    at: Option<&StandIn>,
) -> Result<Arc<dyn Provider>> {
    Ok(Arc::new(super::ec2::Ec2::open(place, at).await?))
}

#[cfg(not(feature = "aws-ebs"))]
#[expect(clippy::unused_async, reason = "it is one function with the other")]
async fn aws(
    _place: (Option<&str>, Option<&str>),
    _at: Option<&StandIn>,
) -> Result<Arc<dyn Provider>> {
    Err(Error::Unsupported("AWS"))
}

#[cfg(feature = "azure")]
fn azure(
    (subscription, resource_group): (&str, &str),
    credential: Option<crate::model::desired::AzureCredential>,
    at: Option<&StandIn>,
) -> Result<Arc<dyn Provider>> {
    use super::{azure, rest::Rest};
    use crate::cloud::azure::{Chain, Environment, sources};

    let cloud = "Azure";
    let azure = |rest| {
        Arc::new(azure::Azure {
            rest,
            subscription: subscription.to_owned(),
            resource_group: resource_group.to_owned(),
        })
    };
    if let Some(at) = at {
        return Ok(azure(Rest::at_stand_in(cloud, at)?));
    }
    let environment = Environment::process();
    // The variable is ours: Azure's own programs have none.
    let base = environment.get("AZURE_RESOURCE_MANAGER_ENDPOINT");
    let base = base.as_deref().unwrap_or("https://management.azure.com");
    let chain = Chain::new(sources(credential), azure::SCOPE, environment.clone());
    let tokens = Box::new(azure::Bearer(Arc::new(chain)));
    Ok(azure(Rest::new(cloud, base, tokens)?))
}

#[cfg(not(feature = "azure"))]
fn azure(
    _place: (&str, &str),
    _credential: Option<crate::model::desired::AzureCredential>,
    _at: Option<&StandIn>,
) -> Result<Arc<dyn Provider>> {
    Err(Error::Unsupported("Azure"))
}

#[cfg(feature = "gcp")]
fn google(project: &str, zone: Option<&str>, at: Option<&StandIn>) -> Result<Arc<dyn Provider>> {
    use super::{gce, rest::Rest};
    use crate::cloud::google::{Credentials, Environment};

    let cloud = "Google Cloud";
    let gce = |rest| {
        Arc::new(gce::Gce {
            rest,
            project: project.to_owned(),
            zone: zone.map(str::to_owned),
        })
    };
    if let Some(at) = at {
        return Ok(gce(Rest::at_stand_in(cloud, at)?));
    }
    let around = Environment::of_process();
    let credentials = Credentials::find(None, &around, gce::SCOPE);
    let credentials = credentials.map_err(|why| Error::Client { cloud, why })?;
    let universe = around.universe.as_deref();
    let universe = universe.or_else(|| credentials.told("universe_domain"));
    let universe = universe.unwrap_or("googleapis.com");
    let usual = format!("https://compute.{universe}/compute/v1");
    let base = around.compute.as_deref().unwrap_or(&usual);
    Ok(gce(Rest::new(cloud, base, Box::new(credentials))?))
}

#[cfg(not(feature = "gcp"))]
fn google(_project: &str, _zone: Option<&str>, _at: Option<&StandIn>) -> Result<Arc<dyn Provider>> {
    Err(Error::Unsupported("Google Cloud"))
}
