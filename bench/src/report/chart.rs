//! The chart, as SVG: what each contender does in each scenario that has a rate, as a part of what nginx does.

use std::fmt::Write;

use super::table::scenarios;
use crate::{
    gateway::Contender,
    sample::{Middle, Samples},
    scenario::Scenario,
};

const LEFT: f64 = 300.0;
const RIGHT: f64 = 90.0;
/// Pixels of what nginx does.
const NGINX: f64 = 420.0;
/// The longest bar, in parts of nginx.
const WIDEST: f64 = 1.6;
const BAR: f64 = 14.0;
const GAP: f64 = 16.0;
const TOP: f64 = 56.0;

/// Bars, with a thin line from the least to the most of the passes.
pub fn chart(samples: &Samples) -> String {
    let mut body = String::new();
    let mut y = TOP;
    for scenario in scenarios(samples) {
        let bars = bars(samples, scenario);
        if bars.is_empty() {
            continue;
        }
        let _ = writeln!(
            body,
            r#"<text x="{}" y="{}" text-anchor="end">{}</text>"#,
            LEFT - 12.0,
            y + BAR - 3.0,
            scenario.title()
        );
        for (contender, ratio, rate) in bars {
            bar(&mut body, y, contender, ratio, rate);
            y += BAR + 3.0;
        }
        y += GAP;
    }
    let (width, height) = (LEFT + NGINX * WIDEST + RIGHT, y + 10.0);
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="sans-serif" font-size="12">
<rect width="{width}" height="{height}" fill="#ffffff"/>
<text x="12" y="22" font-size="15" font-weight="bold">Answers or events a second on one core, as a part of what nginx does</text>
{}<line x1="{x}" y1="{TOP}" x2="{x}" y2="{y}" stroke="#888888" stroke-dasharray="3 3"/>
{body}</svg>
"##,
        legend(),
        x = LEFT + NGINX,
    )
}

fn bars(samples: &Samples, scenario: Scenario) -> Vec<(Contender, Middle, f64)> {
    let of = |contender: &Contender| {
        let ratio = samples.ratio(scenario, *contender, Contender::Nginx, "per_second")?;
        let rate = samples.middle(scenario, *contender, "per_second")?;
        Some((*contender, ratio, rate.median))
    };
    // Where the rate is given there is nothing to compare.
    let is_given = matches!(scenario, Scenario::Latency | Scenario::FirstEvent);
    if is_given { Vec::new() } else { scenario.contenders().iter().filter_map(of).collect() }
}

fn bar(body: &mut String, y: f64, contender: Contender, ratio: Middle, rate: f64) {
    let at = |part: f64| LEFT + NGINX * part.min(WIDEST);
    let (end, middle) = (at(ratio.median), y + BAR / 2.0);
    let colour = colour(contender);
    let _ = writeln!(
        body,
        r##"<rect x="{LEFT}" y="{y}" width="{:.1}" height="{BAR}" fill="{colour}"/><line x1="{:.1}" y1="{middle}" x2="{:.1}" y2="{middle}" stroke="#222222"/><text x="{:.1}" y="{:.1}" font-size="11">{rate:.0} ({:.2})</text>"##,
        end - LEFT,
        at(ratio.least),
        at(ratio.most),
        at(ratio.most).max(end) + 5.0,
        y + BAR - 3.0,
        ratio.median,
    );
}

fn legend() -> String {
    use Contender::{Direct, Hyper, Nginx, Relay, RelayOpen, RelayRedis};
    let mut text = String::new();
    for (n, contender) in [Direct, Nginx, Hyper, RelayOpen, Relay, RelayRedis].into_iter().enumerate() {
        let x = 12.0 + 172.0 * n as f64;
        let _ = writeln!(
            text,
            r#"<rect x="{x}" y="33" width="11" height="11" fill="{}"/><text x="{}" y="43" font-size="11">{}</text>"#,
            colour(contender),
            x + 16.0,
            match contender {
                Direct => "no gateway",
                other => other.title(),
            }
        );
    }
    text
}

fn colour(contender: Contender) -> &'static str {
    match contender {
        Contender::Direct => "#d0d0d0",
        Contender::Nginx => "#7f7f7f",
        Contender::Hyper => "#b8a04a",
        Contender::RelayOpen => "#8fc1e3",
        Contender::Relay => "#2f78b7",
        Contender::RelayRedis => "#174a7c",
        Contender::Dataplane => "#5b3f8c",
    }
}
