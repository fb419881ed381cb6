//! What an engine answers, kept byte by byte so that two states can be compared.

use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::{Engine, command};

/// A question in the words of `tillstream query`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Question(Vec<String>);

impl Question {
    /// `sales --by sku` as one text.
    pub fn new(words: &str) -> Self {
        Self(words.split_whitespace().map(str::to_owned).collect())
    }

    /// The path on the admin port that asks the same.
    fn path(&self) -> Result<String> {
        let mut words = self.0.iter();
        let topic = words.next().context("an empty question")?;
        let topic = match topic.as_str() {
            "transaction" | "terminal" => format!("{topic}s"),
            _ => topic.clone(),
        };
        let mut path = format!("/api/v1/{topic}");
        let mut separator = '?';
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            path.push(separator);
            path.push_str(name.trim_start_matches("--"));
            path.push('=');
            path.push_str(value);
            separator = '&';
        }
        Ok(path)
    }
}

/// Every form of question about some stores and receipts.
pub fn questions(stores: &[u32], receipts: &[&str]) -> Vec<Question> {
    let mut words: Vec<String> = [
        "total", "store", "day", "hour", "sku", "tender", "category", "operator",
    ]
    .iter()
    .map(|by| format!("sales --by {by}"))
    .collect();
    for store in stores {
        for by in ["day", "hour", "sku", "tender"] {
            words.push(format!("sales --by {by} --store {store}"));
        }
        words.push(format!("stock --store {store}"));
        words.push(format!("terminal --store {store}"));
    }
    words.extend(
        receipts
            .iter()
            .map(|receipt| format!("transaction --receipt {receipt}")),
    );
    words.extend(["terminal", "stores", "quarantine"].map(str::to_owned));
    words.iter().map(|words| Question::new(words)).collect()
}

/// The `rows` of answers, as they came.
#[derive(Clone, Debug, Default)]
pub struct Answers(Vec<(Question, String)>);

impl Answers {
    /// Asks a running engine.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn of_engine(engine: &Engine, questions: &[Question]) -> Result<Self> {
        let ask = |question: &Question| rows_of(&engine.get_text(&question.path()?)?);
        Self::of(questions, ask)
    }

    /// Asks with the commands that a person types; they find out for themselves whether an engine runs.
    ///
    /// # Errors
    /// When a command fails.
    pub fn of_folder(home: &crate::Home, questions: &[Question]) -> Result<Self> {
        Self::of(questions, |question| typed(home, question))
    }

    fn of(questions: &[Question], ask: impl Fn(&Question) -> Result<String>) -> Result<Self> {
        let rows = questions.iter().map(|question| {
            let rows = ask(question).with_context(|| format!("{:?}", question.0))?;
            Ok((question.clone(), rows))
        });
        Ok(Self(rows.collect::<Result<_>>()?))
    }

    /// The rows that answered a question.
    ///
    /// # Errors
    /// When it was not asked.
    pub fn rows(&self, words: &str) -> Result<&str> {
        let wanted = Question::new(words);
        let found = self.0.iter().find(|(question, _)| *question == wanted);
        found
            .map(|(_, rows)| rows.as_str())
            .with_context(|| format!("{words} was not asked"))
    }

    /// Compares byte by byte.
    ///
    /// # Errors
    /// Names the first question with another answer, and both answers.
    pub fn must_equal(&self, other: &Self) -> Result<()> {
        self.must_equal_but(other, |_| false)
    }

    /// As [`must_equal`](Self::must_equal), some topics left out.
    ///
    /// # Errors
    /// See there.
    pub fn must_equal_but(&self, other: &Self, left_out: impl Fn(&str) -> bool) -> Result<()> {
        ensure!(self.0.len() == other.0.len(), "other questions were asked");
        for ((question, rows), (_, others)) in self.0.iter().zip(&other.0) {
            let topic = question.0.first().map_or("", String::as_str);
            if rows != others && !left_out(topic) {
                bail!(
                    "{} is answered otherwise:\n{rows}\n{others}",
                    question.0.join(" ")
                );
            }
        }
        Ok(())
    }
}

/// Types a question as a person would.
fn typed(home: &crate::Home, question: &Question) -> Result<String> {
    let mut words: Vec<&str> = question.0.iter().map(String::as_str).collect();
    if words == ["quarantine"] {
        words.push("list");
    } else {
        words.insert(0, "query");
    }
    let output = Command::new(command("tillstream")?)
        .args(words)
        .args(["--json", "--data"])
        .arg(&home.data)
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    rows_of(&String::from_utf8(output.stdout)?)
}

/// The bytes of `rows` in an answer.
fn rows_of(answer: &str) -> Result<String> {
    let rest = answer.trim_end().strip_prefix("{\"rows\":");
    let rest = rest.with_context(|| format!("an answer without rows: {answer}"))?;
    let end = rest
        .rfind(",\"freshness\":")
        .with_context(|| format!("an answer without freshness: {answer}"))?;
    Ok(rest.get(..end).unwrap_or_default().to_owned())
}
