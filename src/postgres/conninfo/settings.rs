//! Keywords with their values, gathered in libpq's order of precedence.

use std::{collections::BTreeMap, time::Duration};

use zeroize::Zeroizing;

use super::{
    Environment, Error,
    keyword::{KEYWORDS, Keyword},
    service, text, uri,
};

/// The meanings of a keyword's words, the default first, and the words as a message lists them.
pub(super) type Words<T> = (&'static [(&'static str, T)], &'static str);

/// Keywords with their values. It has no `Debug`, because a password may be among them.
#[derive(Clone, Default)]
pub(super) struct Settings(BTreeMap<&'static str, Zeroizing<String>>);

impl Settings {
    /// Reads a connection string of either form.
    fn parse(conninfo: &str) -> Result<Self, Error> {
        match uri::after_scheme(conninfo) {
            Some(rest) => uri::parse(rest),
            None => text::parse(conninfo),
        }
    }

    /// Takes the string, then what it leaves unset from its service, then from the environment.
    pub(super) fn gather(conninfo: &str, environment: &Environment) -> Result<Self, Error> {
        let mut settings = Self::parse(conninfo)?;
        let service = settings.get("service").map(str::to_owned);
        let service = service.or_else(|| environment.variable("PGSERVICE").map(str::to_owned));
        if let Some(service) = service {
            let named = settings.get("servicefile");
            let named = named.or_else(|| environment.variable("PGSERVICEFILE"));
            let found = service::find(&service, named, environment)?;
            settings.complete(found);
        }
        settings.complete(Self::from_environment(environment)?);
        // Only what counts in the end must be honoured: the string may overrule a variable.
        for (name, value) in &settings.0 {
            Keyword::named(name).map_or(Ok(()), |keyword| keyword.check(value))?;
        }
        Ok(settings)
    }

    fn from_environment(environment: &Environment) -> Result<Self, Error> {
        let mut settings = Self::default();
        for keyword in KEYWORDS {
            let value = keyword.variable.and_then(|name| environment.variable(name));
            if let Some(value) = value {
                settings.set(keyword.name, value.to_owned())?;
            }
        }
        // The predecessor of PGSSLMODE.
        let require = environment
            .variable("PGREQUIRESSL")
            .is_some_and(|value| value.starts_with('1'));
        if require && settings.get("sslmode").is_none() {
            settings.set("sslmode", "require".to_owned())?;
        }
        Ok(settings)
    }

    pub(super) fn set(&mut self, name: &str, value: String) -> Result<(), Error> {
        let keyword = Keyword::named(name).ok_or_else(|| Error::UnknownKeyword {
            keyword: name.to_owned(),
        })?;
        self.0.insert(keyword.name, Zeroizing::new(value));
        Ok(())
    }

    /// Takes from another what is not set here. An empty value counts as set, as it does in libpq.
    fn complete(&mut self, other: Self) {
        for (keyword, value) in other.0 {
            self.0.entry(keyword).or_insert(value);
        }
    }

    pub(super) fn get(&self, keyword: &'static str) -> Option<&str> {
        let value = self.0.get(keyword)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    /// The meaning of a keyword's word; without one, the first of the table.
    pub(super) fn choice<T: Copy>(
        &self,
        keyword: &'static str,
        (words, expected): Words<T>,
    ) -> Result<T, Error> {
        let value = self.get(keyword).unwrap_or(words[0].0);
        let found = words
            .iter()
            .find(|(word, _)| word.eq_ignore_ascii_case(value));
        found
            .map(|(_, meaning)| *meaning)
            .ok_or_else(|| Error::Value {
                keyword,
                value: value.to_owned(),
                expected,
            })
    }

    /// A whole number.
    pub(super) fn number(&self, keyword: &'static str) -> Result<Option<i32>, Error> {
        let Some(value) = self.get(keyword) else {
            return Ok(None);
        };
        let number = value.trim().parse().map_err(|_| Error::Value {
            keyword,
            value: value.to_owned(),
            expected: "a whole number",
        })?;
        Ok(Some(number))
    }

    /// So many units of time. Zero and less leave it to its default.
    pub(super) fn duration(
        &self,
        keyword: &'static str,
        unit: Duration,
    ) -> Result<Option<Duration>, Error> {
        let number = self.number(keyword)?;
        let units = number.and_then(|number| u32::try_from(number).ok());
        Ok(units
            .filter(|units| *units > 0)
            .map(|units| unit.saturating_mul(units)))
    }

    #[cfg(test)]
    pub(super) fn shown(&self) -> String {
        let show = |(keyword, value): (&&str, &Zeroizing<String>)| match *keyword {
            "password" => "password=***".to_owned(),
            keyword => format!("{keyword}={}", value.as_str()),
        };
        self.0.iter().map(show).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gather(conninfo: &str, variables: &[(&str, &str)]) -> String {
        let environment = Environment::new(variables.iter().copied());
        match Settings::gather(conninfo, &environment) {
            Ok(settings) => settings.shown(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_string_beats_its_service_and_the_service_beats_the_environment() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("services");
        std::fs::write(&file, "[a]\nhost=service\nport=2\n").expect("write");
        let file = file.to_str().expect("UTF-8");
        let variables = [
            ("PGHOST", "environment"),
            ("PGPORT", "1"),
            ("PGUSER", "environment"),
            ("PGSERVICEFILE", file),
        ];
        let seen = gather("service=a host=string", &variables);
        assert_eq!(
            seen,
            "host=string port=2 service=a servicefile=".to_owned() + file + " user=environment"
        );
    }

    #[test]
    fn a_variable_that_cannot_be_honoured_is_refused_like_its_keyword() {
        let refused = "`sslcrl` in the connection cannot be honoured: certificate revocation lists \
            are not supported";
        assert_eq!(gather("", &[("PGSSLCRL", "/crl")]), refused);
        assert_eq!(gather("", &[("PGREQUIRESSL", "1")]), "sslmode=require");
        let both = [("PGREQUIRESSL", "1"), ("PGSSLMODE", "disable")];
        assert_eq!(gather("", &both), "sslmode=disable");
    }

    #[test]
    fn the_string_may_overrule_a_variable_that_cannot_be_honoured() {
        let seen = gather("gssencmode=disable", &[("PGGSSENCMODE", "require")]);
        assert_eq!(seen, "gssencmode=disable");
    }

    #[test]
    fn an_empty_value_hides_the_environment() {
        assert_eq!(gather("host=''", &[("PGHOST", "x")]), "host=");
    }
}
