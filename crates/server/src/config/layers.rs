//! Collects the settings from flags, environment and file, the stronger over the weaker, and
//! remembers where each came from.

use super::ConfigError;
use super::settings::{Kind, SETTINGS, Setting};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// Bytes of a config file that are read: far above any real one.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Variables with our prefix that belong to clients, or to tests that start nodes, or choose the file.
const OTHER_VARIABLES: &[&str] = &[
    "QUORATE_BIN",
    "QUORATE_ENDPOINTS",
    "QUORATE_NAMESPACE",
    "QUORATE_TIMEOUT",
    "QUORATE_CONFIG",
    "QUORATE_CA_FILE",
    "QUORATE_CERT_FILE",
    "QUORATE_KEY_FILE",
    "QUORATE_TOKEN",
    "QUORATE_TOKEN_FILE",
];
/// How alike (1.0 is equal) an unknown name must be to be taken for a slip of the pen.
const NEAR_MISS: f64 = 0.93;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag of the command line.
    Flag(String),
    /// An environment variable.
    Variable(String),
    /// A line of the config file.
    File(PathBuf, usize),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "the flag --{flag}"),
            Self::Variable(name) => write!(f, "the environment variable {name}"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Default => f.write_str("the default"),
        }
    }
}

/// A value as it was written, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The value as text.
    pub text: String,
    /// Where it stood.
    pub origin: Origin,
}

/// What was said about each setting, the strongest source only.
#[derive(Debug, Default)]
pub(crate) struct Layers(BTreeMap<&'static str, Found>);

impl Layers {
    /// Takes each setting from the strongest source that names it: flag, environment, file.
    pub(crate) fn collect(
        flags: &[(&'static str, String)],
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        file: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        let mut layers = Self::default();
        if let Some(path) = file {
            layers.add_file(path)?;
        }
        layers.add_environment(environment)?;
        for (name, text) in flags {
            let setting = Setting::named(name)
                .ok_or_else(|| ConfigError(format!("there is no setting called {name}")))?;
            let found = Found { text: text.clone(), origin: Origin::Flag(setting.flag()) };
            layers.0.insert(setting.name, found);
        }
        Ok(layers)
    }

    /// What a config file says, without any other source.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn of_text(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let mut layers = Self::default();
        layers.add_text(path, text)?;
        Ok(layers)
    }

    /// The strongest word on a setting, if there is any beside its default.
    pub(crate) fn said(&self, setting: &Setting) -> Option<&Found> {
        self.0.get(setting.name)
    }

    fn add_environment(
        &mut self,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(), ConfigError> {
        for (name, value) in environment {
            let Some(name) = name.to_str().filter(|name| name.starts_with("QUORATE_")) else {
                continue;
            };
            let Some(setting) = SETTINGS.iter().find(|setting| setting.variable() == name) else {
                check_variable(name)?;
                continue;
            };
            let text = value.into_string().map_err(|_| {
                ConfigError(format!("the environment variable {name} is not valid UTF-8"))
            })?;
            self.0.insert(setting.name, Found { text, origin: Origin::Variable(name.to_owned()) });
        }
        Ok(())
    }

    fn add_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let unreadable = |reason: String| {
            ConfigError(format!("can't read the config file {}: {reason}", path.display()))
        };
        let length = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
        if length > FILE_BYTES_MAX {
            return Err(unreadable(format!("it is {length} bytes long; is it the right file?")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        self.add_text(path, &text)
    }

    /// Takes what the file of this name says.
    fn add_text(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let lines = Lines { path, text };
        let table = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(1, |span| lines.number(span.start));
            ConfigError(format!("{}:{at}: {}", path.display(), error.message()))
        })?;
        self.add_table(&lines, "", table.get_ref())
    }

    fn add_table(
        &mut self,
        lines: &Lines<'_>,
        prefix: &str,
        table: &DeTable<'_>,
    ) -> Result<(), ConfigError> {
        for (key, value) in table {
            let name = format!("{prefix}{}", key.get_ref());
            let origin = Origin::File(lines.path.to_owned(), lines.number(key.span().start));
            let section = format!("{name}.");
            if SETTINGS.iter().any(|setting| setting.name.starts_with(&section)) {
                let DeValue::Table(inner) = value.get_ref() else {
                    return Err(ConfigError(format!(
                        "{origin}: {name} is a section: write its keys under [{name}]"
                    )));
                };
                self.add_table(lines, &section, inner)?;
                continue;
            }
            let Some(setting) = Setting::named(&name) else {
                return Err(ConfigError(format!("{origin}: {}", unknown(&name, prefix))));
            };
            let text = file_text(setting.kind, value.get_ref()).ok_or_else(|| {
                ConfigError(format!(
                    "{origin}: {name} must be {}, not {} {}",
                    match setting.kind {
                        Kind::Text | Kind::Secret => "a text in quotes",
                        Kind::Number => "a whole number",
                        Kind::Switch => "true or false",
                    },
                    article(value.get_ref().type_str()),
                    value.get_ref().type_str(),
                ))
            })?;
            self.0.insert(setting.name, Found { text, origin });
        }
        Ok(())
    }
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

fn file_text(kind: Kind, value: &DeValue<'_>) -> Option<String> {
    match (kind, value) {
        (Kind::Text | Kind::Secret, DeValue::String(text)) => Some(text.to_string()),
        (Kind::Number, DeValue::Integer(number)) if number.radix() == 10 => {
            Some(number.as_str().replace('_', ""))
        }
        (Kind::Switch, DeValue::Boolean(switch)) => Some(switch.to_string()),
        _ => None,
    }
}

/// Byte offsets to line numbers.
struct Lines<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Lines<'_> {
    fn number(&self, offset: usize) -> usize {
        self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
    }
}

/// Says that a key is unknown, and which one may have been meant.
fn unknown(name: &str, prefix: &str) -> String {
    let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
    // The same key under another section is the likeliest slip, then a similar spelling.
    let moved = SETTINGS.iter().find(|setting| last(setting.name) == last(name));
    let near = SETTINGS
        .iter()
        .map(|setting| (strsim::jaro_winkler(setting.name, name), setting))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, setting)| setting);
    match moved.or(near) {
        Some(setting) if !prefix.is_empty() || setting.name.contains('.') => {
            let (section, key) = setting.name.rsplit_once('.').unwrap_or(("", setting.name));
            let place = match section {
                "" => "at the top of the file".to_owned(),
                section => format!("under [{section}]"),
            };
            format!("unknown setting {name}; did you mean {key}, {place}?")
        }
        Some(setting) => format!("unknown setting {name}; did you mean {}?", setting.name),
        None => format!("unknown setting {name}; `quorate serve --help` lists all of them"),
    }
}

/// A variable with our prefix that names no setting is an error when it looks like a slip.
fn check_variable(name: &str) -> Result<(), ConfigError> {
    if OTHER_VARIABLES.contains(&name) {
        return Ok(());
    }
    let likeness = |other: &str| strsim::jaro_winkler(other, name);
    let client = OTHER_VARIABLES.iter().map(|other| likeness(other)).fold(0.0, f64::max);
    let near = SETTINGS
        .iter()
        .map(|setting| (likeness(&setting.variable()), setting))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    // A key without its section is the likeliest slip.
    let bare = |setting: &Setting| {
        let key = setting.name.rsplit('.').next().unwrap_or(setting.name);
        name.strip_prefix("QUORATE_").is_some_and(|rest| rest.eq_ignore_ascii_case(key))
    };
    let near = SETTINGS.iter().find(|setting| bare(setting)).map(|s| (1.0, s)).or(near);
    match near {
        Some((own, setting)) if own > NEAR_MISS && own > client => Err(ConfigError(format!(
            "the environment variable {name} is unknown; did you mean {}? unset it if not",
            setting.variable()
        ))),
        _ => Ok(()),
    }
}
