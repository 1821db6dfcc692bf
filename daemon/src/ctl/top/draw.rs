//! Where everything is on the screen, and how it looks.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, BorderType, Chart, Dataset, GraphType, LegendPosition, Paragraph, Row, Table};

use super::Screen;
use crate::ctl::print::account;
use crate::ctl::table::{bytes, count, duration};
use crate::ctl::time;
use crate::view::{GpuView, Point, ProcessView, VmView};

/// What the curves show, in seconds.
const SECONDS: usize = 120;
const TEXT: Color = Color::Rgb(205, 214, 224);
const FAINT: Color = Color::Rgb(110, 122, 138);
const FRAME: Color = Color::Rgb(70, 80, 96);
const TITLE: Color = Color::Rgb(148, 197, 255);
const TROUBLE: Color = Color::Rgb(255, 120, 110);
const CHOSEN: Color = Color::Rgb(38, 46, 60);
/// One for each VM, in turn.
const COLORS: [Color; 8] = [
    Color::Rgb(90, 200, 250),
    Color::Rgb(255, 170, 80),
    Color::Rgb(130, 220, 120),
    Color::Rgb(220, 130, 240),
    Color::Rgb(255, 110, 130),
    Color::Rgb(250, 220, 90),
    Color::Rgb(110, 160, 255),
    Color::Rgb(80, 220, 190),
];

fn color_of(at: usize) -> Color {
    COLORS.get(at % COLORS.len()).copied().unwrap_or(TEXT)
}

/// The whole screen.
pub(super) fn draw(frame: &mut Frame, screen: &Screen) {
    let gpus = u16::try_from(screen.now.gpus.len()).unwrap_or(u16::MAX).clamp(1, 8);
    let vms = u16::try_from(screen.now.vms.len()).unwrap_or(u16::MAX).clamp(1, 16);
    let rows = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(gpus),
        Constraint::Min(8),
        Constraint::Length(vms + 3),
        Constraint::Max(processes_height(screen)),
        Constraint::Length(1),
    ]);
    let [head, devices, curves, vms, processes, keys] = rows.areas(frame.area());
    draw_head(frame, head, screen);
    draw_devices(frame, devices, &screen.now.gpus);
    draw_curves(frame, curves, screen);
    draw_vms(frame, vms, screen);
    draw_processes(frame, processes, screen);
    draw_keys(frame, keys, screen);
}

fn processes_height(screen: &Screen) -> u16 {
    let there = screen.now.vms.get(screen.selected).map_or(0, |vm| vm.processes.len());
    u16::try_from(there).unwrap_or(u16::MAX).clamp(1, 8) + 3
}

fn boxed(title: String) -> Block<'static> {
    let title = Line::from(format!(" {title} ")).style(Style::new().fg(TITLE).add_modifier(Modifier::BOLD));
    Block::bordered().border_type(BorderType::Rounded).border_style(Style::new().fg(FRAME)).title(title)
}

fn draw_head(frame: &mut Frame, area: Rect, screen: &Screen) {
    let processes: usize = screen.now.vms.iter().map(|vm| vm.processes.len()).sum();
    let left = Line::from(vec![
        Span::styled(" Paravane", Style::new().fg(TITLE).add_modifier(Modifier::BOLD)),
        Span::styled(format!("  {}", screen.now.host), Style::new().fg(TEXT)),
        Span::styled(format!("   {} VMs, {processes} processes", screen.now.vms.len()), Style::new().fg(FAINT)),
    ]);
    let right = format!("{} UTC ", time::shown(screen.now.at_ms / 1000));
    frame.render_widget(Paragraph::new(left), area);
    frame.render_widget(Paragraph::new(right).alignment(Alignment::Right).style(Style::new().fg(FAINT)), area);
}

/// A bar of so many columns, an eighth of one at its end.
fn bar(part: f64, columns: usize, color: Color) -> Vec<Span<'static>> {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let total = columns * 8;
    let filled = (0..total).filter(|at| (*at as f64 + 0.5) / (total as f64) < part).count();
    let (whole, eighth) = (filled / 8, EIGHTHS.get(filled % 8).copied().unwrap_or_default());
    let rest = columns - whole - usize::from(!eighth.is_empty());
    vec![
        Span::styled(format!("{}{eighth}", "█".repeat(whole)), Style::new().fg(color)),
        Span::styled("·".repeat(rest), Style::new().fg(FRAME)),
    ]
}

/// Green, and red when there is little left.
fn heat(part: f64) -> Color {
    match part {
        part if part < 0.7 => Color::Rgb(110, 210, 130),
        part if part < 0.9 => Color::Rgb(250, 200, 90),
        _ => Color::Rgb(255, 120, 110),
    }
}

fn draw_devices(frame: &mut Frame, area: Rect, gpus: &[GpuView]) {
    if gpus.is_empty() {
        let text = " no back end has told of a device yet";
        return frame.render_widget(Paragraph::new(text).style(Style::new().fg(FAINT)), area);
    }
    let columns = usize::from(area.width.saturating_sub(70) / 2).max(8);
    let lines: Vec<Line> = gpus
        .iter()
        .map(|gpu| {
            let busy = f64::from(gpu.busy) / 100.0;
            let memory = if gpu.memory_bytes == 0 { 0.0 } else { gpu.memory_used_bytes as f64 / gpu.memory_bytes as f64 };
            let name: String = gpu.name.chars().take(24).collect();
            let mut spans = vec![Span::styled(format!(" {} {name:<24} ", gpu.index), Style::new().fg(TEXT))];
            spans.extend(bar(busy, columns, heat(busy)));
            spans.push(Span::styled(format!(" {:>5.1}%   ", busy * 100.0), Style::new().fg(TEXT)));
            spans.extend(bar(memory, columns, heat(memory)));
            let of = format!(" {} of {}", bytes(gpu.memory_used_bytes), bytes(gpu.memory_bytes));
            spans.push(Span::styled(of, Style::new().fg(TEXT)));
            Line::from(spans)
        })
        .collect();
    frame.render_widget(Paragraph::new(lines), area);
}

fn draw_curves(frame: &mut Frame, area: Rect, screen: &Screen) {
    let sides = Layout::horizontal([Constraint::Percentage(60), Constraint::Percentage(40)]);
    let [shares, memory] = sides.areas(area);
    let share = |point: &Point| f64::from(point.share) / 10.0;
    let title = if screen.now.gpus.len() > 1 { "share of the VM's devices, %" } else { "share of the device, %" };
    draw_chart(frame, shares, screen, title, 100.0, share);
    let used = |point: &Point| point.memory_mib as f64;
    let most = screen.now.history.values().flatten().map(used).fold(64.0, f64::max);
    draw_chart(frame, memory, screen, "device memory, MiB", most * 1.1, used);
}

fn draw_chart(frame: &mut Frame, area: Rect, screen: &Screen, title: &str, top: f64, of: impl Fn(&Point) -> f64) {
    let curve = |vm: &VmView| -> Vec<(f64, f64)> {
        let points = screen.now.history.get(&vm.name).map_or(&[][..], Vec::as_slice);
        let from = points.len().saturating_sub(SECONDS);
        let last = points.get(from..).unwrap_or_default();
        let first = SECONDS - last.len();
        (first..).zip(last).map(|(second, point)| (second as f64 - SECONDS as f64 + 1.0, of(point))).collect()
    };
    let curves: Vec<Vec<(f64, f64)>> = screen.now.vms.iter().map(curve).collect();
    let sets = screen.now.vms.iter().zip(&curves).enumerate().map(|(at, (vm, points))| {
        let style = Style::new().fg(color_of(at));
        let set = Dataset::default().marker(Marker::Braille).graph_type(GraphType::Line).style(style);
        set.name(vm.name.clone()).data(points)
    });
    let faint = Style::new().fg(FAINT);
    let label = |value: f64| Span::styled(format!("{value:.0}"), faint);
    let ends = [format!("-{SECONDS} s"), format!("-{} s", SECONDS / 2), "now".into()];
    let chart = Chart::new(sets.collect())
        .block(boxed(title.to_owned()))
        .x_axis(
            Axis::default().style(Style::new().fg(FRAME)).bounds([1.0 - SECONDS as f64, 0.0]).labels(
                ends.map(|text| Span::styled(text, faint)),
            ),
        )
        .y_axis(
            Axis::default().style(Style::new().fg(FRAME)).bounds([0.0, top]).labels([
                label(0.0),
                label(top / 2.0),
                label(top),
            ]),
        )
        .legend_position(Some(LegendPosition::TopLeft))
        .hidden_legend_constraints((Constraint::Percentage(50), Constraint::Percentage(60)));
    frame.render_widget(chart, area);
}

/// A column of the VMs: its head, its width, whether it is to the right, and from which width of the screen on it is shown.
type Column = (&'static str, u16, bool, u16);

const COLUMNS: [Column; 13] = [
    ("ON", 5, true, 0),
    ("GPU", 6, true, 0),
    ("ENTITLED", 8, true, 58),
    ("WEIGHT", 6, true, 74),
    ("MIN-CAP", 9, true, 84),
    ("PRIORITY", 11, false, 106),
    ("MEMORY", 9, true, 0),
    ("QUOTA", 9, true, 106),
    ("KERN/S", 6, true, 66),
    ("WAITED", 6, true, 90),
    ("THROTT.", 7, true, 98),
    ("GPU TIME", 9, true, 0),
    ("PROC.", 5, true, 130),
];

fn draw_vms(frame: &mut Frame, area: Rect, screen: &Screen) {
    const NAME_COLUMNS: u16 = 16;
    // Where there is one device, all are on it.
    let first = usize::from(screen.now.gpus.len() < 2);
    let shown: Vec<(usize, &Column)> =
        COLUMNS.iter().enumerate().skip(first).filter(|(_, column)| column.3 <= area.width).collect();
    let taken: u16 = shown.iter().map(|(_, column)| column.1 + 1).sum();
    let bar_columns = area.width.saturating_sub(taken + NAME_COLUMNS + 4).clamp(4, 30);
    let rows = screen.now.vms.iter().enumerate().map(|(at, vm)| {
        let chosen = if at == screen.selected { Style::new().bg(CHOSEN) } else { Style::new() };
        let colored = Style::new().fg(color_of(at)).add_modifier(Modifier::BOLD);
        let figures = figures(screen, vm);
        let mut cells = vec![
            Line::from(Span::styled(format!("● {}", vm.name), colored)),
            Line::from(bar(f64::from(vm.share) / 100.0, usize::from(bar_columns), color_of(at))),
        ];
        cells.extend(shown.iter().filter_map(|(place, column)| {
            let text = figures.get(*place)?.clone();
            Some(Line::from(text).alignment(if column.2 { Alignment::Right } else { Alignment::Left }))
        }));
        Row::new(cells).style(chosen.fg(TEXT))
    });
    let mut head = vec![Line::from("VM"), Line::from("")];
    let mut widths = vec![Constraint::Fill(1), Constraint::Length(bar_columns)];
    for (_, (name, width, right, _)) in &shown {
        head.push(Line::from(*name).alignment(if *right { Alignment::Right } else { Alignment::Left }));
        widths.push(Constraint::Length(*width));
    }
    let table = Table::new(rows, widths)
        .header(Row::new(head).style(Style::new().fg(FAINT)))
        .column_spacing(1)
        .block(boxed("VMs".into()));
    frame.render_widget(table, area);
}

/// A VM's cells, as [`COLUMNS`] has them.
fn figures(screen: &Screen, vm: &VmView) -> [String; COLUMNS.len()] {
    [
        devices_of(vm),
        format!("{:.1}%", f64::from(vm.share)),
        format!("{:.1}%", f64::from(vm.entitled)),
        vm.set.weight.to_string(),
        limits(vm),
        vm.set.priority.clone(),
        bytes(vm.memory_bytes),
        vm.set.memory_quota_bytes.map_or_else(|| "-".into(), bytes),
        rate(screen.rate(vm, "kernels")),
        duration_rate(screen.rate(vm, "waited_ns")),
        duration_rate(screen.rate(vm, "throttled_ns")),
        duration(vm.used.get("gpu_time_ns")),
        vm.processes.len().to_string(),
    ]
}

/// Their numbers: 0,2 or 0-3.
fn devices_of(vm: &VmView) -> String {
    let indices: Vec<u32> = vm.devices.iter().map(|on| on.index).collect();
    let (first, last) = (indices.first().copied().unwrap_or_default(), indices.last().copied().unwrap_or_default());
    if indices.len() > 2 && (first..=last).eq(indices.iter().copied()) {
        return format!("{first}-{last}");
    }
    indices.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

fn limits(vm: &VmView) -> String {
    format!("{:.0}-{:.0}%", f64::from(vm.set.minimum), f64::from(vm.set.cap))
}

fn rate(per_second: f64) -> String {
    count(whole(per_second))
}

/// Time per second: of a VM's threads together, so it may be more than one.
fn duration_rate(ns_per_second: f64) -> String {
    format!("{:.0}%", ns_per_second / 1e7)
}

fn whole(value: f64) -> u64 {
    format!("{value:.0}").parse().unwrap_or(0)
}

/// Of the processes, beside the name.
const OF_PROCESSES: [Column; 14] = [
    ("PID", 7, true, 0),
    ("WORKER", 7, true, 145),
    ("BUSY", 5, true, 0),
    ("MEMORY", 9, true, 0),
    ("PEAK", 9, true, 86),
    ("KERNELS", 8, true, 0),
    ("GRAPHS", 7, true, 76),
    ("CALLS", 8, true, 0),
    ("TO DEVICE", 10, true, 118),
    ("FROM DEV.", 10, true, 118),
    ("WAITED", 8, true, 96),
    ("THROTT.", 8, true, 128),
    ("OVERRUN", 8, true, 137),
    ("GPU TIME", 9, true, 0),
];

/// A process's cells, as [`OF_PROCESSES`] has them.
fn figures_of(process: &ProcessView) -> Vec<String> {
    let facts = [
        process.pid.to_string(),
        process.worker.to_string(),
        format!("{}%", process.busy_percent),
        bytes(process.memory_bytes),
        bytes(process.memory_peak_bytes),
    ];
    facts.into_iter().chain(account(process)).collect()
}

fn draw_processes(frame: &mut Frame, area: Rect, screen: &Screen) {
    let Some(vm) = screen.now.vms.get(screen.selected) else { return };
    let shown: Vec<(usize, &Column)> =
        OF_PROCESSES.iter().enumerate().filter(|(_, column)| column.3 <= area.width).collect();
    let right = |text: String| Line::from(text).alignment(Alignment::Right);
    let line = |cells: &[String], name: &str| {
        let mut cells: Vec<Line> = shown.iter().filter_map(|(place, _)| cells.get(*place).cloned()).map(right).collect();
        cells.insert(1, Line::from(name.to_owned()));
        Row::new(cells)
    };
    let rows = vm.processes.iter().map(|process| line(&figures_of(process), &process.name).style(Style::new().fg(TEXT)));
    let head = line(&OF_PROCESSES.map(|(name, ..)| name.to_owned()), "PROCESS").style(Style::new().fg(FAINT));
    let mut widths: Vec<Constraint> = shown.iter().map(|(_, column)| Constraint::Length(column.1)).collect();
    widths.insert(1, Constraint::Fill(1));
    let mut title = format!("processes of {}", vm.name);
    if vm.devices.len() > 1 {
        let shares = vm.devices.iter().map(|on| format!("device {}: {:.1}%", on.index, f64::from(on.share)));
        title.push_str(&format!("   {}", shares.collect::<Vec<_>>().join("  ")));
    }
    let table = Table::new(rows, widths)
        .header(head)
        .column_spacing(1)
        .block(boxed(title));
    frame.render_widget(table, area);
}

fn draw_keys(frame: &mut Frame, area: Rect, screen: &Screen) {
    let line = match &screen.trouble {
        Some(trouble) => Line::styled(format!(" {trouble}"), Style::new().fg(TROUBLE)),
        None => Line::styled(" q end   up, down choose a VM", Style::new().fg(FAINT)),
    };
    frame.render_widget(Paragraph::new(line), area);
}
