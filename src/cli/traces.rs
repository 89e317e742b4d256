//! Spans for an OpenTelemetry collector, where the environment names one: `OTEL_EXPORTER_OTLP_ENDPOINT` and its like.
//!
//! Behind the feature `otlp`, over HTTP, from a thread of its own: a collector that does not answer delays nothing but the end of the
//! process, and that by [`END_MAX`]. Without the feature, or without the variable, there are none.

#[cfg(feature = "otlp")]
pub(super) use self::sent::{Traces, start};
#[cfg(not(feature = "otlp"))]
pub(super) use self::unsent::{Traces, start};

#[cfg(not(feature = "otlp"))]
mod unsent {
    use tracing_subscriber::layer::Identity;

    /// Nothing is sent.
    pub(in crate::cli) struct Traces;

    pub(in crate::cli) fn start() -> (Identity, Traces) {
        (Identity::new(), Traces)
    }

    impl Traces {
        #[expect(
            clippy::unused_self,
            reason = "with the feature there is something to end"
        )]
        pub(in crate::cli) fn end(self) {}
    }
}

#[cfg(feature = "otlp")]
mod sent {
    use std::{env, time::Duration};

    use opentelemetry::{KeyValue, trace::TracerProvider as _};
    use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _};
    use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
    use tracing::Subscriber;
    use tracing_subscriber::{
        Layer,
        filter::{LevelFilter, Targets},
        registry::LookupSpan,
    };

    use crate::{cli::output, failure::chain};

    /// How long the last spans may take at the end.
    const END_MAX: Duration = Duration::from_secs(5);

    /// The variables that name a collector: for all signals, and for spans alone.
    const ENDPOINTS: [&str; 2] = [
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    ];

    /// What sends spans, if anything does.
    pub(in crate::cli) struct Traces(Option<SdkTracerProvider>);

    /// A layer that takes the program's own spans, and what sends them.
    pub(in crate::cli) fn start<S>() -> (impl Layer<S>, Traces)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let provider = wanted().then(provider);
        let provider = provider.and_then(|provider| {
            provider
                .inspect_err(|error| {
                    output::talk(&format!("warning: no spans are sent: {}", chain(error)));
                })
                .ok()
        });
        let layer = provider.as_ref().map(|provider| {
            let own = Targets::new().with_target("barkeep", LevelFilter::INFO);
            let tracer = provider.tracer("barkeep");
            tracing_opentelemetry::layer()
                .with_tracer(tracer)
                .with_filter(own)
        });
        (layer, Traces(provider))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "these variables are what users of OpenTelemetry expect"
    )]
    fn variable(name: &str) -> bool {
        env::var_os(name).is_some_and(|value| !value.is_empty())
    }

    fn wanted() -> bool {
        ENDPOINTS.iter().any(|name| variable(name))
    }

    fn provider() -> Result<SdkTracerProvider, ExporterBuildError> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .build()?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder().with_attribute(version);
        let resource = if variable("OTEL_SERVICE_NAME") {
            resource
        } else {
            resource.with_service_name("barkeep")
        };
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build());
        Ok(provider.build())
    }

    impl Traces {
        /// Sends what has not been sent yet.
        pub(in crate::cli) fn end(self) {
            let Some(provider) = self.0 else {
                return;
            };
            if let Err(error) = provider.shutdown_with_timeout(END_MAX) {
                output::talk(&format!(
                    "warning: not all spans were sent: {}",
                    chain(&error)
                ));
            }
        }
    }
}
