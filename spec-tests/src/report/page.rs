//! The report as one HTML page that needs nothing else: a picture of all cases,
//! and below it every clause with what checks it.

use std::fmt::Write as _;

use super::{Report, word};
use crate::clause::Clause;
use crate::verdict::{Mark, Verdict};

const STYLE: &str = "
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem;
  color: #1d2733; background: #fff; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: .3rem 0; } .quiet { color: #66717f; }
svg { width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: #44505e; }
.passed { fill: #2e9d6a; color: #2e9d6a; } .known { fill: #d9862b; color: #b86a12; }
.unsupported { fill: #8d9bb0; color: #66717f; } .skipped { fill: #d5dbe3; color: #66717f; }
.differs { fill: #cf3f3f; color: #cf3f3f; } .none { color: #8d9bb0; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; vertical-align: top;
  padding: .25rem .6rem .25rem 0; border-top: 1px solid #e6eaef; }
th { color: #66717f; font-weight: 500; } code { font-size: 13px; }
td:first-child { white-space: nowrap; } summary { cursor: pointer; }
@media (prefers-color-scheme: dark) { body { background: #14191f; color: #dbe2ea; }
  td, th { border-color: #2a323c; } .skipped { fill: #3a4450; } svg text { fill: #9fabb9; } }
";

/// The page.
pub(crate) fn page(report: &Report) -> String {
    let mut page = String::new();
    let runtime = &report.runtime;
    let title = format!("{} {}, {}", runtime.name, runtime.version, report.host);
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>{0}</title><style>{STYLE}</style>\n<h1>{0}</h1>\n\
         <p class=\"quiet\">runtime-spec {1} ({2})</p><p>{3}</p>\n",
        escape(&title),
        escape(&report.specification.version),
        report.specification.commit.get(..12).unwrap_or_default(),
        legend(report),
    );
    page.push_str(&picture(report));
    let mut file = "";
    for clause in &report.clauses {
        if clause.file != file {
            if !file.is_empty() {
                page.push_str("</table>\n");
            }
            file = &clause.file;
            let _ = write!(page, "<h2>{file}</h2>\n<table><tr><th>clause<th>duty<th>checked by\n");
        }
        page.push_str(&row(report, clause));
    }
    page.push_str("</table>\n</html>\n");
    page
}

fn legend(report: &Report) -> String {
    let parts: Vec<String> = report
        .summary
        .iter()
        .map(|(word, count)| format!("<b class=\"{word}\">{count}</b> {word}"))
        .collect();
    parts.join(" · ")
}

/// A square for each case, a row of them for each subject.
fn picture(report: &Report) -> String {
    const SIZE: usize = 14;
    const ACROSS: usize = 60;
    let (mut squares, mut y) = (String::new(), 0);
    let mut rest = report.cases.as_slice();
    while let Some(first) = rest.first() {
        let subject = first.id.split('/').next().unwrap_or_default();
        let count =
            rest.iter().take_while(|case| case.id.split('/').next() == Some(subject)).count();
        let (cases, after) = rest.split_at(count);
        rest = after;
        let _ = write!(squares, "<text x=\"0\" y=\"{}\">{}</text>", y + 11, escape(subject));
        for (number, case) in cases.iter().enumerate() {
            let x = 110 + number % ACROSS * SIZE;
            let below = y + number / ACROSS * SIZE;
            let _ = write!(
                squares,
                "<rect class=\"{}\" x=\"{x}\" y=\"{below}\" width=\"12\" height=\"12\" rx=\"2\">\
                 <title>{}: {}</title></rect>",
                word(case.mark),
                escape(&case.id),
                escape(&case.says),
            );
        }
        y += (count.div_ceil(ACROSS)) * SIZE + 6;
    }
    let width = 110 + ACROSS * SIZE;
    format!("<svg viewBox=\"0 0 {width} {y}\" role=\"img\">{squares}</svg>\n")
}

fn row(report: &Report, clause: &Clause) -> String {
    let checked = match &clause.untested {
        Some(why) => format!("<span class=\"none\">no case: {}</span>", escape(why)),
        None => report.of(clause).into_iter().map(case).collect(),
    };
    format!(
        "<tr><td><code>{}</code><br><span class=\"quiet\">{} · {}</span><td>{}<td>{checked}\n",
        escape(&clause.id),
        escape(&clause.level),
        escape(&clause.section),
        escape(&clause.says),
    )
}

fn case(verdict: &Verdict) -> String {
    let (mark, id) = (word(verdict.mark), escape(&verdict.id));
    if verdict.mark == Mark::Passed {
        return format!("<div class=\"{mark}\">{id}</div>");
    }
    let reason = escape(&verdict.reason);
    format!("<details class=\"{mark}\"><summary>{id} · {mark}</summary>{reason}</details>")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_no_markup() {
        assert_eq!(escape("<a> & \"b\""), "&lt;a&gt; &amp; &quot;b&quot;");
    }
}
