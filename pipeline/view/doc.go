// Package view is the form in which Redis shows what was published of a window: pages of rows, and a directory that says
// which pages make up the content of a revision and what they add up to.
//
// The pages of a window whose lanes keep their state in pages are ranges of the hash of the key. A revision that changes
// little writes the pages anew that it changes, and a directory; the others stand as they were (copy on write). So what a
// revision changes is found by reading a few pages, and Σ over the directory proves that nothing else is different.
package view
