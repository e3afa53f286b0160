//! `docs/wire.md`, which is written from the proto files: `UPDATE_DOCS=1` with the test below writes it
//! again. They are compiled here with their comments, which no program that is shipped carries.

use super::pages::root;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::source_code_info::Location;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    ServiceDescriptorProto,
};
use std::collections::BTreeMap;
use std::fmt::Write as _;

const FILE: &str = "docs/wire.md";
const COMMAND: &str =
    "UPDATE_DOCS=1 cargo test --release --locked --workspace --test docs the_page_of_messages";
const HEAD: &str = include_str!("wire_head.md");

/// The numbers by which a descriptor names its parts.
mod tag {
    pub(super) const FILE_MESSAGE: i32 = 4;
    pub(super) const FILE_ENUM: i32 = 5;
    pub(super) const FILE_SERVICE: i32 = 6;
    pub(super) const FILE_SYNTAX: i32 = 12;
    pub(super) const MESSAGE_FIELD: i32 = 2;
    pub(super) const ENUM_VALUE: i32 = 2;
    pub(super) const SERVICE_METHOD: i32 = 2;
}

/// What a file says of its parts.
struct Comments<'a>(BTreeMap<&'a [i32], &'a Location>);

impl<'a> Comments<'a> {
    fn of(file: &'a FileDescriptorProto) -> Self {
        let info = file.source_code_info.as_ref().expect("it was compiled with comments");
        Self(info.location.iter().map(|at| (&at.path[..], at)).collect())
    }

    /// Lines of comment above a part, without the space that all of them begin with.
    fn lines(text: &str) -> String {
        let lines = text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end());
        lines.collect::<Vec<_>>().join("\n")
    }

    /// What stands right above a part.
    fn above(&self, path: &[i32]) -> String {
        let said = self.0.get(path).map(|at| at.leading_comments()).unwrap_or_default();
        Self::lines(said)
    }

    /// What stands above that, apart from it by an empty line.
    fn before(&self, path: &[i32]) -> Vec<String> {
        let said = self.0.get(path).map(|at| &at.leading_detached_comments[..]);
        said.unwrap_or_default().iter().map(|text| Self::lines(text)).collect()
    }
}

/// The name of a type without its package.
fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

fn link(name: &str) -> String {
    let short = short(name);
    format!("[{short}](#{})", short.to_lowercase())
}

fn kind(field: &FieldDescriptorProto) -> String {
    let kind = match field.r#type() {
        Type::Message | Type::Enum => link(field.type_name()),
        other => other.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    };
    match field.label() {
        Label::Repeated => format!("repeated {kind}"),
        _ if field.proto3_optional() => format!("optional {kind}"),
        _ => kind,
    }
}

/// A text as Markdown shows it: what is in backticks stays, and the rest has no marks in it.
fn plain(text: &str) -> String {
    let parts = text.split('`').enumerate().map(|(at, part)| match at % 2 {
        0 => part.replace('<', "&lt;").replace('*', "\\*"),
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("`")
}

/// A text as the cell of a table.
fn cell(text: &str) -> String {
    plain(&text.replace('\n', " ")).replace('|', "\\|")
}

/// A paragraph; one that is laid out by hand stays as it is.
fn paragraph(text: &str) -> String {
    let by_hand = text.lines().any(|line| line.starts_with("  ") && !line.starts_with("   "));
    match by_hand {
        true => format!("```text\n{text}\n```\n"),
        false => format!("{}\n", plain(text)),
    }
}

struct Writer {
    page: String,
}

impl Writer {
    fn line(&mut self, line: &str) {
        writeln!(self.page, "{line}").expect("a text takes whatever is written");
    }

    fn service(&mut self, service: &ServiceDescriptorProto, comments: &Comments<'_>, path: &[i32]) {
        for said in comments.before(path) {
            self.line(&paragraph(&said));
        }
        self.line(&format!("### {}\n", service.name()));
        self.line(&paragraph(&comments.above(path)));
        for (at, method) in (0..).zip(&service.method) {
            let stream = |streams: bool| if streams { "stream " } else { "" };
            self.line(&format!(
                "- **{}** ({}{}) → {}{}: {}",
                method.name(),
                stream(method.client_streaming()),
                link(method.input_type()),
                stream(method.server_streaming()),
                link(method.output_type()),
                cell(&comments.above(&[path, &[tag::SERVICE_METHOD, at]].concat())),
            ));
        }
        self.line("");
    }

    fn message(&mut self, message: &DescriptorProto, comments: &Comments<'_>, path: &[i32]) {
        assert!(message.nested_type.is_empty() && message.enum_type.is_empty(), "no page for it");
        for said in comments.before(path) {
            self.line(&paragraph(&said));
        }
        self.line(&format!("### {}\n", message.name()));
        self.line(&paragraph(&comments.above(path)));
        if message.field.is_empty() {
            return;
        }
        self.line("| | field | type | |\n|---|---|---|---|");
        for (at, field) in (0..).zip(&message.field) {
            let one_of = field.oneof_index.filter(|_| !field.proto3_optional()).map(|at| {
                let of = usize::try_from(at).ok().and_then(|at| message.oneof_decl.get(at));
                format!(" (one of `{}`)", of.map(|of| of.name()).unwrap_or_default())
            });
            self.line(&format!(
                "| {} | `{}` | {}{} | {} |",
                field.number(),
                field.name(),
                kind(field),
                one_of.unwrap_or_default(),
                cell(&comments.above(&[path, &[tag::MESSAGE_FIELD, at]].concat())),
            ));
        }
        self.line("");
    }

    fn enumeration(&mut self, it: &EnumDescriptorProto, comments: &Comments<'_>, path: &[i32]) {
        self.line(&format!("### {}\n", it.name()));
        self.line(&paragraph(&comments.above(path)));
        self.line("| | value | |\n|---|---|---|");
        for (at, value) in (0..).zip(&it.value) {
            let said = cell(&comments.above(&[path, &[tag::ENUM_VALUE, at]].concat()));
            self.line(&format!("| {} | `{}` | {said} |", value.number(), value.name()));
        }
        self.line("");
    }

    fn file(&mut self, file: &FileDescriptorProto) {
        let comments = Comments::of(file);
        self.line(&format!("## {}\n", file.name().trim_start_matches("quorate/v1/")));
        self.line(&paragraph(&comments.above(&[tag::FILE_SYNTAX])));
        for (at, service) in (0..).zip(&file.service) {
            self.service(service, &comments, &[tag::FILE_SERVICE, at]);
        }
        for (at, message) in (0..).zip(&file.message_type) {
            self.message(message, &comments, &[tag::FILE_MESSAGE, at]);
        }
        for (at, it) in (0..).zip(&file.enum_type) {
            self.enumeration(it, &comments, &[tag::FILE_ENUM, at]);
        }
    }
}

/// The files of the public API, as the compiler reads them.
fn files() -> Vec<FileDescriptorProto> {
    let protos = root().join("proto");
    let names = std::fs::read_dir(protos.join("quorate/v1")).expect("there are proto files");
    let mut names: Vec<_> = names
        .map(|entry| entry.expect("it can be read").file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".proto"))
        .map(|name| format!("quorate/v1/{name}"))
        .collect();
    names.sort();
    let mut compiler = protox::Compiler::new([&protos]).expect("the directory is there");
    compiler.include_source_info(true);
    compiler.open_files(&names).expect("they can be compiled, and were");
    compiler.file_descriptor_set().file
}

fn page() -> String {
    let mut writer = Writer { page: HEAD.to_owned() };
    for file in files() {
        writer.line("");
        writer.file(&file);
    }
    let mut page = writer.page;
    while page.contains("\n\n\n") {
        page = page.replace("\n\n\n", "\n\n");
    }
    page.trim_end().to_owned() + "\n"
}

#[test]
fn the_page_of_messages_says_what_the_proto_files_say() {
    let (file, page) = (root().join(FILE), page());
    if std::env::var("UPDATE_DOCS").is_ok_and(|value| value == "1") {
        std::fs::write(&file, &page).expect("it can be written");
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    let differs = page.lines().zip(written.lines()).find(|(is, was)| is != was);
    assert!(
        page == written,
        "{FILE} is not what the proto files say; first difference, is and was: {differs:?}; this \
         writes it again: {COMMAND}"
    );
}

#[test]
fn nothing_is_missing_on_the_page_of_messages() {
    let (page, mut count) = (page(), 0);
    for file in files() {
        let methods = file.service.iter().flat_map(|service| &service.method);
        let methods = methods.map(|method| format!("- **{}** ", method.name()));
        let fields = file.message_type.iter().flat_map(|message| &message.field);
        let fields = fields.map(|field| format!("| {} | `{}` | ", field.number(), field.name()));
        for part in methods.chain(fields) {
            count += 1;
            let line = page.lines().find(|line| line.starts_with(&part));
            let line = line.unwrap_or_else(|| panic!("there is no {part}"));
            assert!(!line.ends_with("|  |") && !line.ends_with(": "), "nothing is said of {line}");
        }
    }
    assert!(count > 400, "so few show little: {count}");
}
