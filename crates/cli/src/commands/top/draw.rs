//! Draws a page into a buffer of characters: that of a terminal, or one that is written as plain text.

use super::pages::{self, Column, Page, Row, Tone, Words};
use super::picture::Picture;
use super::view::{PageName, View};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use tokio::time::Instant;

/// Between two columns.
const GAP: usize = 2;
/// Names are cut off to this before columns are left out.
const NAME_WIDTH_MIN: usize = 12;
/// Rows of a page as plain text, beside those of the table.
const WORDS_MAX: usize = 100;

const HELP: [&str; 10] = [
    "q, Esc, Ctrl-C   quit",
    "Tab, Shift-Tab   the next page, the one before",
    "1 to 6           cluster, queues, locks, cache, bus, sessions",
    "Up, Down, j, k   scroll; PageUp, PageDown by a screen; Home, End to its ends",
    "s                sort by the next column",
    "/                only names with this in them; Enter when it is typed, Esc for all",
    "p, Space         pause, go on",
    "?, h             this, and back",
    "",
    "Rates are those between the two newest looks. - stands for what is not known.",
];

/// What is drawn beside what was seen.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// At the right of the first line.
    pub(super) about: String,
    /// Not where NO_COLOR is set.
    pub(super) colours: bool,
}

/// How what was drawn fits the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Drawn {
    /// Rows of the table that fit.
    pub(super) rows: usize,
    /// Rows that there are.
    pub(super) of: usize,
}

/// Draws all of the screen.
pub(super) fn screen(
    buffer: &mut Buffer,
    frame: &Frame,
    picture: &Picture,
    view: &View,
    now: Instant,
) -> Drawn {
    let mut brush = Brush::new(buffer, frame.colours);
    brush.title(frame, view);
    brush.tabs(view);
    // Where there is hardly room, what was seen goes before what keys do.
    let footer = (brush.left() >= 4).then(|| brush.take_last());
    if let Some(words) = pages::unreached(picture, now) {
        brush.words(&[words], 3);
    }
    let drawn = if view.help {
        HELP.iter().for_each(|line| brush.line(Line::raw(*line)));
        Drawn::default()
    } else {
        let page = pages::page(picture, view, now);
        brush.page(&page, view)
    };
    if let Some(y) = footer {
        brush.footer(y, view, drawn);
    }
    drawn
}

/// A page in full as plain text, so wide.
pub(super) fn text(picture: &Picture, view: &View, width: u16, now: Instant) -> String {
    let page = pages::page(picture, view, now);
    let height = u16::try_from(page.rows.len() + WORDS_MAX).unwrap_or(u16::MAX);
    // ratatui takes no more cells than this.
    let height = height.min(u16::MAX / width.max(1));
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    let mut brush = Brush::new(&mut buffer, false);
    brush.page(&page, view);
    lines(&buffer).join("\n").trim_end().to_owned()
}

/// What stands in a buffer, line by line.
fn lines(buffer: &Buffer) -> Vec<String> {
    let Rect { width, .. } = buffer.area;
    let rows = buffer.content.chunks(usize::from(width).max(1));
    rows.map(|row| {
        let mut line = String::new();
        // A wide character takes the cells behind it, too.
        let mut skip = 0;
        for cell in row {
            if skip == 0 {
                line.push_str(cell.symbol());
                skip = Span::raw(cell.symbol()).width();
            }
            skip = skip.saturating_sub(1);
        }
        line.trim_end().to_owned()
    })
    .collect()
}

/// Where the next line goes.
struct Brush<'a> {
    buffer: &'a mut Buffer,
    area: Rect,
    colours: bool,
}

impl<'a> Brush<'a> {
    fn new(buffer: &'a mut Buffer, colours: bool) -> Self {
        let area = buffer.area;
        Self { buffer, area, colours }
    }

    /// Lines that are left.
    fn left(&self) -> usize {
        self.area.height.into()
    }

    fn width(&self) -> usize {
        self.area.width.into()
    }

    /// Keeps the last line for something else.
    fn take_last(&mut self) -> u16 {
        self.area.height = self.area.height.saturating_sub(1);
        self.area.bottom()
    }

    /// Draws a line, if there is room.
    fn line(&mut self, line: Line<'_>) {
        if self.area.height > 0 {
            self.buffer.set_line(self.area.x, self.area.y, &line, self.area.width);
            self.area.y = self.area.y.saturating_add(1);
            self.area.height -= 1;
        }
    }

    fn style(&self, tone: Tone) -> Style {
        let style = Style::new();
        match (tone, self.colours) {
            (Tone::Plain, _) | (Tone::Good, false) => style,
            (Tone::Good, true) => style.fg(Color::Green),
            (Tone::Warning, true) => style.fg(Color::Yellow),
            (Tone::Bad, true) => style.fg(Color::Red).add_modifier(Modifier::BOLD),
            (Tone::Warning | Tone::Bad, false) => style.add_modifier(Modifier::BOLD),
        }
    }

    fn title(&mut self, frame: &Frame, view: &View) {
        let name = "quorate top";
        let paused = if view.paused { "PAUSED, " } else { "" };
        let about = format!("{paused}{}", frame.about);
        let room = self.width().saturating_sub(name.len() + 1);
        let about = cut(&about, room);
        let pad = " ".repeat((room + 1).saturating_sub(width(&about)));
        let bold = Style::new().add_modifier(Modifier::BOLD);
        self.line(Line::from(vec![
            Span::styled(name, bold),
            Span::raw(pad),
            Span::styled(about, if view.paused { bold } else { Style::new() }),
        ]));
    }

    fn tabs(&mut self, view: &View) {
        let mut spans = Vec::new();
        for (number, page) in (1..).zip(PageName::ALL) {
            let style = match page == view.page {
                true => Style::new().add_modifier(Modifier::REVERSED),
                false => Style::new(),
            };
            spans.push(Span::styled(format!(" {number} {} ", page.word()), style));
        }
        self.line(Line::from(spans));
    }

    /// Draws words, on so many lines at most.
    fn words(&mut self, words: &[Words], lines_max: usize) {
        let mut lines = Vec::new();
        for Words { text, tone } in words {
            let style = self.style(*tone);
            let wrapped = wrap(text, self.width());
            lines.extend(wrapped.into_iter().map(|line| Line::styled(line, style)));
        }
        if lines.len() > lines_max {
            lines.truncate(lines_max.saturating_sub(1));
            lines.push(Line::raw("…"));
        }
        lines.into_iter().for_each(|line| self.line(line));
    }

    fn page(&mut self, page: &Page, view: &View) -> Drawn {
        // At least half of the room is the table's.
        self.words(&page.words, (self.left() / 2).max(1));
        if self.left() > 6 {
            self.line(Line::raw(""));
        }
        self.table(page, view)
    }

    fn table(&mut self, page: &Page, view: &View) -> Drawn {
        if page.rows.is_empty() {
            let words =
                if view.filter.is_empty() { page.empty } else { "nothing has that in its name" };
            self.line(Line::raw(words));
            return Drawn::default();
        }
        let widths = widths(page, self.width());
        let header = page.columns.iter().enumerate().map(|(at, Column { name, .. })| {
            let sorted = Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED);
            let style =
                if at == view.sort() { sorted } else { Style::new().add_modifier(Modifier::BOLD) };
            (*name, style)
        });
        self.line(aligned(header, page.columns, &widths));
        let drawn = Drawn { rows: self.left(), of: page.rows.len() };
        let above = view.scroll.min(drawn.scroll_max());
        for Row { cells, tone } in page.rows.iter().skip(above).take(drawn.rows) {
            let style = self.style(*tone);
            let cells = cells.iter().map(|cell| (cell.text.as_str(), style));
            self.line(aligned(cells, page.columns, &widths));
        }
        drawn
    }

    fn footer(&mut self, y: u16, view: &View, drawn: Drawn) {
        let text = if view.typing {
            format!("/{}_  (Enter: done, Esc: all)", view.filter)
        } else {
            let column =
                pages::columns(view.page).get(view.sort()).map_or("", |column| column.name);
            let filter = match view.filter.as_str() {
                "" => "/ filter".to_owned(),
                filter => format!("/ filter: {filter}"),
            };
            let mut text = format!("q quit  Tab page  s sort: {column}  {filter}  p pause  ? help");
            if drawn.of > drawn.rows {
                let above = view.scroll.min(drawn.scroll_max());
                let last = (above + drawn.rows).min(drawn.of);
                text = format!("{} to {last} of {}  {text}", above + 1, drawn.of);
            }
            text
        };
        let dim = Style::new().add_modifier(Modifier::DIM);
        self.area = Rect { y, height: 1, ..self.area };
        self.line(Line::styled(text, dim));
    }
}

impl Drawn {
    /// Rows above the first one when the last one is at the bottom.
    pub(super) fn scroll_max(self) -> usize {
        self.of.saturating_sub(self.rows)
    }
}

fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// `text`, or as much of it as fits, which then ends in an ellipsis.
fn cut(text: &str, width_max: usize) -> String {
    if width(text) <= width_max {
        return text.to_owned();
    }
    let mut cut = String::new();
    for c in text.chars() {
        let mut longer = cut.clone();
        longer.push(c);
        // One column is that of the ellipsis.
        if width(&longer) + 1 > width_max {
            break;
        }
        cut = longer;
    }
    if width_max > 0 {
        cut.push('…');
    }
    cut
}

/// `text` on lines that fit, broken at spaces.
fn wrap(text: &str, width_max: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(word) <= width_max => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(cut(word, width_max)),
        }
    }
    lines
}

/// How wide each column is; those that do not fit are left out from the right.
fn widths(page: &Page, width_max: usize) -> Vec<usize> {
    let natural = |at: usize, column: &Column| {
        let cells = page.rows.iter().filter_map(|row| row.cells.get(at));
        let widest = cells.map(|cell| width(&cell.text)).max();
        widest.unwrap_or(0).max(width(column.name))
    };
    let mut widths: Vec<usize> =
        page.columns.iter().enumerate().map(|(at, column)| natural(at, column)).collect();
    let Some(name) = widths.first().copied() else { return widths };
    let others = |widths: &[usize]| widths.iter().skip(1).map(|width| width + GAP).sum::<usize>();
    while widths.len() > 1 && others(&widths) + name.min(NAME_WIDTH_MIN) > width_max {
        widths.pop();
    }
    widths[0] = name.min(width_max.saturating_sub(others(&widths)));
    widths
}

fn aligned<'a>(
    cells: impl Iterator<Item = (&'a str, Style)>,
    columns: &[Column],
    widths: &[usize],
) -> Line<'static> {
    let mut spans = Vec::new();
    for ((at, (text, style)), (column, &width_max)) in
        cells.enumerate().zip(columns.iter().zip(widths))
    {
        if at > 0 {
            spans.push(Span::raw(" ".repeat(GAP)));
        }
        let text = cut(text, width_max);
        let pad = Span::raw(" ".repeat(width_max.saturating_sub(width(&text))));
        let text = Span::styled(text, style);
        spans.extend(if column.right { [pad, text] } else { [text, pad] });
    }
    Line::from(spans)
}

#[cfg(test)]
mod tests;
