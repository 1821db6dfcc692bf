//! `paravanectl top`: VMs and devices as they are, redrawn every second, with the last minutes as curves; or one
//! picture of it as text.

mod draw;

use std::io;
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::style::{Color, Modifier, Style};

use super::command::Failure;
use super::http::{Control, NoAnswer};
use crate::view::{Snapshot, VmView};

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// What a picture has where there is no terminal.
const SIZE: (u16, u16) = (120, 36);

/// What is on the screen.
#[derive(Debug, Default)]
pub(super) struct Screen {
    now: Snapshot,
    before: Option<Snapshot>,
    selected: usize,
    /// Why `now` is not the latest.
    trouble: Option<String>,
}

impl Screen {
    fn new(now: Snapshot) -> Self {
        Self { now, ..Self::default() }
    }

    fn take(&mut self, answer: Result<Snapshot, NoAnswer>) {
        match answer {
            Ok(next) => {
                self.before = Some(std::mem::replace(&mut self.now, next));
                self.trouble = None;
            }
            Err(error) => self.trouble = Some(error.to_string()),
        }
        self.selected = self.selected.min(self.now.vms.len().saturating_sub(1));
    }

    /// How much of a counter a VM gets in a second.
    fn rate(&self, vm: &VmView, counter: &str) -> f64 {
        let Some(before) = &self.before else { return 0.0 };
        let same = |other: &&VmView| other.name == vm.name && other.boot == vm.boot;
        let was = before.vms.iter().find(same).map_or(vm.used.get(counter), |vm| vm.used.get(counter));
        let seconds = Duration::from_millis(self.now.at_ms.saturating_sub(before.at_ms)).as_secs_f64();
        let more = vm.used.get(counter).saturating_sub(was) as f64;
        if seconds > 0.0 { more / seconds } else { 0.0 }
    }
}

fn look(control: &Control) -> Result<Snapshot, NoAnswer> {
    control.get("/v1/host?history=true")
}

/// Full screen, until `q`.
///
/// # Errors
/// If there is no terminal, or paravaned does not answer at first.
pub(super) fn run(control: &Control) -> Result<(), Failure> {
    let mut screen = Screen::new(look(control)?);
    let mut terminal = ratatui::try_init()?;
    let outcome = watch(control, &mut screen, &mut terminal);
    ratatui::restore();
    Ok(outcome?)
}

fn watch(control: &Control, screen: &mut Screen, terminal: &mut ratatui::DefaultTerminal) -> io::Result<()> {
    let mut due = Instant::now() + PERIOD;
    loop {
        terminal.draw(|frame| draw::draw(frame, screen))?;
        if event::poll(due.saturating_duration_since(Instant::now()))? {
            if let Event::Key(key) = event::read()?
                && key.kind != KeyEventKind::Release
                && !obey(screen, key)
            {
                return Ok(());
            }
        } else {
            screen.take(look(control));
            due = Instant::now() + PERIOD;
        }
    }
}

/// False: it ends.
fn obey(screen: &mut Screen, key: KeyEvent) -> bool {
    let last = screen.now.vms.len().saturating_sub(1);
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
        KeyCode::Down | KeyCode::Char('j') => screen.selected = (screen.selected + 1).min(last),
        KeyCode::Up | KeyCode::Char('k') => screen.selected = screen.selected.saturating_sub(1),
        KeyCode::Home => screen.selected = 0,
        KeyCode::End => screen.selected = last,
        _ => {}
    }
    true
}

/// One picture, after a second in which rates are measured.
///
/// # Errors
/// paravaned's.
pub(super) fn once(control: &Control, size: Option<(u16, u16)>, color: bool) -> Result<String, Failure> {
    let mut screen = Screen::new(look(control)?);
    std::thread::sleep(PERIOD);
    screen.take(look(control));
    let size = size.or_else(|| ratatui::crossterm::terminal::size().ok().filter(|size| size.0 > 0));
    Ok(picture(&screen, size.unwrap_or(SIZE), color))
}

/// The screen as text of so many columns and lines.
fn picture(screen: &Screen, (columns, lines): (u16, u16), color: bool) -> String {
    let Ok(mut terminal) = Terminal::new(TestBackend::new(columns, lines));
    let Ok(_) = terminal.draw(|frame| draw::draw(frame, screen));
    text(terminal.backend().buffer(), color)
}

/// A buffer's lines, with the escapes of a terminal if it is to have colours.
fn text(buffer: &Buffer, color: bool) -> String {
    let mut text = String::new();
    for line in buffer.content.chunks(usize::from(buffer.area.width.max(1))) {
        let mut last = Style::reset();
        let mut row = String::new();
        for cell in line {
            let style = Style::new().fg(cell.fg).bg(cell.bg).add_modifier(cell.modifier);
            if color && style != last {
                row.push_str(&escape(cell.fg, cell.bg, cell.modifier));
                last = style;
            }
            row.push_str(cell.symbol());
        }
        text.push_str(if color { &row } else { row.trim_end() });
        text.push_str(if color { "\x1b[0m\n" } else { "\n" });
    }
    text
}

fn escape(fg: Color, bg: Color, modifier: Modifier) -> String {
    let mut codes = vec!["0".to_string()];
    if modifier.contains(Modifier::BOLD) {
        codes.push("1".into());
    }
    if modifier.contains(Modifier::REVERSED) {
        codes.push("7".into());
    }
    for (color, kind) in [(fg, 38), (bg, 48)] {
        if let Color::Rgb(red, green, blue) = color {
            codes.push(format!("{kind};2;{red};{green};{blue}"));
        }
    }
    format!("\x1b[{}m", codes.join(";"))
}

#[cfg(test)]
#[path = "top/tests.rs"]
mod tests;
