use super::*;

/// Every row as (line, fields) or (line, why it is broken).
fn read(text: &[u8]) -> Vec<(u64, Result<Vec<String>, &'static str>)> {
    let mut rows = Rows::new(text).unwrap();
    let mut row = Row::default();
    let mut out = Vec::new();
    loop {
        match rows.next(&mut row).unwrap() {
            Next::End => return out,
            Next::Broken(why) => out.push((row.line(), Err(why))),
            Next::Row => {
                let fields = (0..row.len()).map(|i| row.text(i).unwrap_or("?").to_owned());
                out.push((row.line(), Ok(fields.collect())));
            }
        }
    }
}

fn fields(list: &[&str]) -> Result<Vec<String>, &'static str> {
    Ok(list.iter().map(|text| (*text).to_owned()).collect())
}

#[test]
fn every_form_that_rfc_4180_allows_is_read() {
    let table: [(&[u8], &[&[&str]]); 9] = [
        (b"a,b\n1,2\n", &[&["a", "b"], &["1", "2"]]),
        (b"a,b\r\n1,2\r\n", &[&["a", "b"], &["1", "2"]]),
        (b"a,b\n1,2", &[&["a", "b"], &["1", "2"]]),
        (b"\xef\xbb\xbfa,b\n", &[&["a", "b"]]),
        (b"\"a,b\",\"c\"\"d\"\n", &[&["a,b", "c\"d"]]),
        (b"\"a\r\nb\",c\r\n", &[&["a\r\nb", "c"]]),
        (b"a,,\n,\n", &[&["a", "", ""], &["", ""]]),
        (b"\n\r\na\n\n", &[&["a"]]),
        (b"a,\"b\"", &[&["a", "b"]]),
    ];
    for (text, wanted) in table {
        let found: Vec<_> = read(text).into_iter().map(|(_, row)| row).collect();
        let wanted: Vec<_> = wanted.iter().map(|row| fields(row)).collect();
        assert_eq!(found, wanted, "{:?}", String::from_utf8_lossy(text));
    }
}

#[test]
fn lines_are_counted_as_an_editor_counts_them() {
    let rows = read(b"a\n\"b\nb\"\n\nc\n");
    let lines: Vec<u64> = rows.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [1, 2, 5]);
}

#[test]
fn an_open_quote_costs_its_own_line_only() {
    let rows = read(b"a,b\n\"x,2\n3,4\n5,6\n");
    assert_eq!(rows[1], (2, Err("a quote is not closed")));
    assert_eq!(
        rows[2..],
        [(3, fields(&["3", "4"])), (4, fields(&["5", "6"]))]
    );
    let mut long = b"\"x,2\n".to_vec();
    long.extend(b"3,4\n".repeat(400_000));
    let rows = read(&long);
    assert!(rows[0].1.is_err());
    assert_eq!(rows.len(), 400_001);
}

#[test]
fn an_open_quote_that_a_later_row_closes_costs_its_own_line_only() {
    let rows = read(b"a,b\n\"x,2\n3,4\n5,\"y, z\"\n7,8\n");
    assert_eq!(rows[1], (2, Err("text behind a closing quote")));
    let behind = [
        (3, fields(&["3", "4"])),
        (4, fields(&["5", "y, z"])),
        (5, fields(&["7", "8"])),
    ];
    assert_eq!(rows[2..], behind);
}

#[test]
fn text_behind_a_closing_quote_is_a_broken_row() {
    let rows = read(b"\"a\"x,b\nc,d\n");
    assert!(rows[0].1.is_err());
    assert_eq!(rows[1], (2, fields(&["c", "d"])));
}

#[test]
fn a_line_without_end_is_skipped_in_bounded_memory() {
    let mut text = vec![b'x'; 3_000_000];
    text.extend_from_slice(b"\nc,d\n");
    let mut rows = Rows::new(&text[..]).unwrap();
    let mut row = Row::default();
    assert!(matches!(rows.next(&mut row).unwrap(), Next::Broken(_)));
    assert!(
        rows.buffer.capacity() <= 4 * CHUNK,
        "{}",
        rows.buffer.capacity()
    );
    assert_eq!(rows.next(&mut row).unwrap(), Next::Row);
    assert_eq!((row.line(), row.text(1)), (2, Some("d")));
}

#[test]
fn rows_across_the_edges_of_chunks_stay_whole() {
    let line = "12345,\"quoted \"\"text\"\"\",zzz\r\n";
    let text = line.repeat(100_000);
    let rows = read(text.as_bytes());
    assert_eq!(rows.len(), 100_000);
    assert!(
        rows.iter()
            .all(|(_, row)| *row == fields(&["12345", "quoted \"text\"", "zzz"]))
    );
}

/// A source that gives its bytes one by one, as a slow pipe may.
struct Drip<'a>(&'a [u8]);

impl Read for Drip<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match (to.first_mut(), self.0.split_first()) {
            (Some(place), Some((byte, rest))) => {
                (*place, self.0) = (*byte, rest);
                Ok(1)
            }
            _ => Ok(0),
        }
    }
}

#[test]
fn a_pipe_is_read_as_it_comes() {
    let mut rows = Rows::new(Drip(b"\xef\xbb\xbfa,b\r\n\"c\"\"\",\"d\ne\"\r\nf,g\r\n")).unwrap();
    let mut row = Row::default();
    for wanted in [["a", "b"], ["c\"", "d\ne"], ["f", "g"]] {
        assert_eq!(rows.next(&mut row).unwrap(), Next::Row);
        assert_eq!([row.text(0), row.text(1)], wanted.map(Some));
    }
    assert!(
        rows.source.0.is_empty() && !rows.at_end,
        "nothing is asked for ahead of its time"
    );
    assert_eq!(rows.next(&mut row).unwrap(), Next::End);
}
