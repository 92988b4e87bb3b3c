// Package archive keeps the contents of final windows as Parquet files, so that they outlive their retention. It knows
// what the columns of a spec are, writes a file that is either whole or not there, reads one back into the rows that were
// published, and proves it against the ledger row. Which windows are archived, and when, is not its business.
//
// Non-obvious, and the cause of lost or changed results when forgotten:
//
//   - A column's type follows from the spec alone. Where a published number need not be exact in a column of numbers, every
//     file has its digits as text: a type that depended on the values would make files that cannot be read together.
//   - Reading a file back renders the very bytes that were published, so the checksum of the ledger row also proves the
//     file. A row that would come back differently is an error of writing, never a file.
//   - Equal contents of an equal row make equal bytes, whoever writes them and when: the metadata names neither the program
//     nor a time. That is what makes a repeated job harmless.
//   - A file has its name only after it is durable and was read back.
package archive
