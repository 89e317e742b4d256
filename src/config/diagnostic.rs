//! What is wrong with a configuration, and where.
//!
//! A [`Diagnostic`] says what is wrong, underlines the text and says what would mend it. A
//! [`Report`] holds all of them with the texts that they point into, and renders them for people or
//! as data. Nothing is ever reported one at a time: whoever mends a configuration sees everything
//! at once.

use std::{fmt, sync::Arc};

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, ThemeCharacters, ThemeStyles,
};
use serde::Serialize;

use super::source::{Place, Sources, Span};
use crate::failure::Kind;

/// Whether a diagnostic stops the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can, but probably does not say what was meant.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    severity: Severity,
    message: String,
    labels: Vec<(Span, String)>,
    help: Option<String>,
}

impl Diagnostic {
    /// Something that must be mended.
    pub fn error(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            labels: Vec::new(),
            help: None,
        }
    }

    /// Something that should be looked at.
    pub fn warning(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(message)
        }
    }

    /// Underlines a text; the first one is where the diagnostic is.
    #[must_use]
    pub fn label(mut self, span: &Span, text: impl Into<String>) -> Self {
        self.labels.push((span.clone(), text.into()));
        self
    }

    /// Says what would mend it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Says what would mend it, if that is known.
    #[must_use]
    pub fn help_if(mut self, help: Option<String>) -> Self {
        self.help = help;
        self
    }

    /// Whether it stops the program.
    pub fn severity(&self) -> Severity {
        self.severity
    }
}

/// How a report is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// With lines, without colours.
    Plain,
    /// With colours, for a terminal.
    Colour,
}

/// All diagnostics of one configuration, with the texts that they point into.
#[derive(Clone, Debug)]
pub struct Report {
    sources: Arc<Sources>,
    diagnostics: Vec<Diagnostic>,
}

/// A diagnostic as data.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Whether it stops the program.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// Where, with what is said about each place; the first is the principal one.
    pub places: Vec<FindingPlace>,
    /// What would mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// One place that a finding points to.
#[derive(Clone, Debug, Serialize)]
pub struct FindingPlace {
    /// File, line and column.
    #[serde(flatten)]
    pub place: Place,
    /// What is said about it.
    pub label: String,
}

impl Report {
    /// Puts diagnostics in order, errors first, then as in the text. What several servers inherit
    /// is said once.
    pub fn new(sources: Arc<Sources>, mut diagnostics: Vec<Diagnostic>) -> Self {
        let start = |one: &Diagnostic| one.labels.first().map_or(0, |(span, _)| span.start);
        diagnostics.sort_by(|one, other| {
            let key = |one: &Diagnostic| (one.severity, start(one));
            key(one)
                .cmp(&key(other))
                .then_with(|| one.message.cmp(&other.message))
        });
        diagnostics.dedup();
        Self {
            sources,
            diagnostics,
        }
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.diagnostics.is_empty()
    }

    /// How many diagnostics of a severity there are.
    pub fn count(&self, severity: Severity) -> usize {
        let same = |one: &&Diagnostic| one.severity == severity;
        self.diagnostics.iter().filter(same).count()
    }

    /// The diagnostics as data.
    pub fn findings(&self) -> Vec<Finding> {
        let finding = |one: &Diagnostic| Finding {
            severity: one.severity,
            message: one.message.clone(),
            places: self.places(one),
            help: one.help.clone(),
        };
        self.diagnostics.iter().map(finding).collect()
    }

    fn places(&self, diagnostic: &Diagnostic) -> Vec<FindingPlace> {
        let place = |(span, label): &(Span, String)| FindingPlace {
            place: self.sources.place(span),
            label: label.clone(),
        };
        diagnostic.labels.iter().map(place).collect()
    }

    /// The diagnostics as text, for people: every one with the line it is about, underlined.
    pub fn render(&self, style: Style) -> String {
        const WIDTH: usize = 100;
        let theme = GraphicalTheme {
            characters: ThemeCharacters::unicode(),
            styles: match style {
                Style::Plain => ThemeStyles::none(),
                Style::Colour => ThemeStyles::ansi(),
            },
        };
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(WIDTH)
            .with_links(false)
            .with_show_related_as_nested(true)
            .without_syntax_highlighting();
        let mut text = String::new();
        for diagnostic in &self.diagnostics {
            if !text.is_empty() {
                text.push('\n');
            }
            let drawn = Drawn::new(&self.sources, diagnostic);
            handler
                .render_report(&mut text, &drawn)
                .expect("writing to a text does not fail");
        }
        text
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = self.count(Severity::Error);
        let plural = if errors == 1 { "" } else { "s" };
        write!(formatter, "the configuration has {errors} error{plural}")?;
        let first = self
            .diagnostics
            .iter()
            .find(|one| one.severity == Severity::Error);
        if let Some(first) = first {
            write!(formatter, "; the first: {}", first.message)?;
            if let Some((span, _)) = first.labels.first() {
                write!(formatter, " ({})", self.sources.place(span))?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

impl Report {
    /// A configuration that cannot be used is a matter of usage.
    pub fn kind(&self) -> Kind {
        Kind::Usage
    }
}

/// A diagnostic in the form that miette draws: one text with its labels, other texts as notes
/// below.
#[derive(Debug)]
struct Drawn {
    severity: miette::Severity,
    message: String,
    source: Option<NamedSource<Arc<str>>>,
    labels: Vec<LabeledSpan>,
    help: Option<String>,
    elsewhere: Vec<Drawn>,
}

impl Drawn {
    fn new(sources: &Sources, diagnostic: &Diagnostic) -> Self {
        let severity = match diagnostic.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        };
        let mut drawn = Self {
            severity,
            message: diagnostic.message.clone(),
            source: None,
            labels: Vec::new(),
            help: diagnostic.help.clone(),
            elsewhere: Vec::new(),
        };
        for (span, label) in &diagnostic.labels {
            drawn.point(sources, span, label);
        }
        drawn
    }

    fn point(&mut self, sources: &Sources, span: &Span, label: &str) {
        let source = sources.source(span);
        let (start, length) = (span.start - source.start, span.len());
        match &self.source {
            None => {
                self.source = Some(NamedSource::new(&source.name, Arc::clone(&source.text)));
                self.labels.push(LabeledSpan::new_primary_with_span(
                    Some(label.to_owned()),
                    (start, length),
                ));
            }
            Some(principal) if principal.name() == source.name => {
                self.labels
                    .push(LabeledSpan::new(Some(label.to_owned()), start, length));
            }
            Some(_) => self.elsewhere.push(Self {
                severity: miette::Severity::Advice,
                message: label.to_owned(),
                source: Some(NamedSource::new(&source.name, Arc::clone(&source.text))),
                labels: vec![LabeledSpan::new_primary_with_span(None, (start, length))],
                help: None,
                elsewhere: Vec::new(),
            }),
        }
    }
}

impl fmt::Display for Drawn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Drawn {}

impl miette::Diagnostic for Drawn {
    fn severity(&self) -> Option<miette::Severity> {
        Some(self.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let help = self.help.as_ref()?;
        Some(Box::new(help))
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        let source = self.source.as_ref()?;
        Some(source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        let related = self
            .elsewhere
            .iter()
            .map(|one| one as &dyn miette::Diagnostic);
        (!self.elsewhere.is_empty()).then(|| Box::new(related) as Box<_>)
    }
}
