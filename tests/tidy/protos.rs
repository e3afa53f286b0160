//! The public API is documented where it is declared.

use super::workspace::{Source, sources};
use super::{assert_found, assert_none};

/// Statements that declare nothing which a user of the API has to understand.
const SILENT: &[&str] =
    &["syntax", "package", "import", "option", "reserved", "extensions", "edition"];

fn comment_breaches(proto: &Source) -> Vec<String> {
    let mut breaches = Vec::new();
    // Whether the line above is a comment, and whether the statement above is complete.
    let (mut commented, mut complete) = (false, true);
    let mut in_block = false;
    for (number, line) in (1..).zip(proto.text.lines()) {
        let line = line.trim();
        if in_block || line.starts_with("/*") {
            in_block = !line.contains("*/");
            commented = true;
            continue;
        }
        if line.is_empty() || line.starts_with("//") {
            commented = !line.is_empty();
            continue;
        }
        let code = line.split("//").next().unwrap_or_default().trim_end();
        let word =
            code.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        let declares = !word.is_empty() && !SILENT.contains(&word);
        if complete && declares && !commented {
            breaches.push(format!(
                "{}:{number}: `{code}` has no comment directly above it: say what it means, with \
                 unit, bound and default",
                proto.path
            ));
        }
        complete = code.ends_with([';', '{', '}']);
        commented = false;
    }
    breaches
}

#[test]
fn the_public_api_is_documented() {
    let protos = sources(&["proto/quorate/v1"], ".proto");
    let breaches: Vec<_> = protos.iter().flat_map(comment_breaches).collect();
    assert_none(&breaches);
}

fn breaches_in(text: &str) -> Vec<String> {
    comment_breaches(&Source { path: "a.proto".to_owned(), text: text.to_owned() })
}

#[test]
fn planted_declarations_without_comment_are_found() {
    let text = r#"// A file.
syntax = "proto3";
package quorate.v1;
import "google/protobuf/any.proto";

service Bare {
  // Fine.
  rpc Fine(A) returns (A);
  rpc Bare(A) returns (A);
}

// Fine.
message Fine {
  reserved 4;
  // Fine.
  uint64 fine = 1; // trailing
  uint64 bare = 2;
  // Not directly above.

  uint64 also_bare = 3;
  oneof bare {
    /* Fine, over
       two lines. */
    bool fine_too = 5;
  }
  // Fine.
  map<string, uint64>
      over_two_lines = 6;
}

// Fine.
enum Fine {
  BARE = 0;
}
message Bare {}
"#;
    let expected = [
        "a.proto:6: `service Bare",
        "a.proto:9: `rpc Bare",
        "a.proto:17: `uint64 bare",
        "a.proto:20: `uint64 also_bare",
        "a.proto:21: `oneof bare",
        "a.proto:33: `BARE",
        "a.proto:35: `message Bare",
    ];
    assert_found(&breaches_in(text), &expected);
}

#[test]
fn documented_declarations_pass() {
    let text = "// M.\nmessage M {\n  // A.\n  uint64 a = 1;\n}\n\n// S.\nservice S {\n  // R.\n  \
                rpc R(M) returns (M) {\n    option deprecated = true;\n  }\n}\n";
    assert_none(&breaches_in(text));
}
