//! The fenced blocks of a page: their language, what is in them, and what the page says of them.
//!
//! Read by the tests, and by the build of `tests/book`; so it knows the standard library alone.

/// A fenced block of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// The word behind the fence; empty when there is none.
    pub(crate) language: String,
    /// The line of its fence, from 1.
    pub(crate) line: usize,
    /// The heading above it.
    pub(crate) heading: String,
    /// What is between the fences.
    pub(crate) text: String,
    /// What the comment above it says, if there is one.
    pub(crate) mark: Option<Mark>,
}

/// What is said of a block that is not run, or compiled, as it stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// `<!-- not run: REASON -->`
    NotRun(String),
    /// `<!-- run by PATH -->`: run, or compiled, by that test, in a world of its own.
    RunBy(String),
}

/// The mark in a comment of one line.
fn mark(line: &str) -> Option<Mark> {
    let said = line.trim().strip_prefix("<!--")?.strip_suffix("-->")?.trim();
    if let Some(reason) = said.strip_prefix("not run:") {
        return Some(Mark::NotRun(reason.trim().to_owned()));
    }
    said.strip_prefix("run by ").map(|path| Mark::RunBy(path.trim().to_owned()))
}

/// All fenced blocks of a page, in their order.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    let (mut heading, mut marked) = (String::new(), None);
    for (number, line) in (1..).zip(page.lines()) {
        let fence = line.trim_start().strip_prefix("```");
        match (&mut open, fence) {
            (None, Some(info)) => {
                let language = info.split([',', ' ']).next().unwrap_or_default().to_owned();
                let text = String::new();
                let heading = heading.clone();
                open = Some(Block { language, line: number, heading, text, mark: marked.take() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => {
                block.text += line;
                block.text.push('\n');
            }
            (None, None) => {
                if let Some(title) = line.strip_prefix('#') {
                    heading = title.trim_start_matches('#').trim().to_owned();
                }
                marked = mark(line).or_else(|| marked.filter(|_| line.trim().is_empty()));
            }
        }
    }
    // One that is never closed is a block, too: what is in it is wrong then, or it says so.
    blocks.extend(open);
    blocks
}
