// Package page is the format of state pages: immutable runs of entries of one slice generation, as
// lanes write them to Redis.
//
// A commit writes pages beside those that are there and never changes one. A page's name says at
// which place of the lane's chain it was written, so the content of a slice follows from the names
// alone: of each key, the entry in the page of the highest place whose commit has ended. Whatever
// stands in pages of a commit that has not ended is content for nobody.
//
// Nothing here talks to anybody: package store moves pages, package fold writes them, and whoever
// reads a slice merges its pages with Merge.
//
// The value of a page, version 2 (entries in fields of a hash are version 1):
//
//	byte     format, 2
//	uvarint  length of the state id, and as many bytes
//	uvarint  offset: the entries hold every event of the lane below it
//	uint32   number of entries, little endian
//	uint32   CRC-32C of everything before it and everything behind it, little endian
//	entries  in ascending order of hash and key, each key once:
//	         uvarint length of the key, the key, uvarint length of the entry, the entry
//
// Entries are those of package agg, whole, with stamp 0.
package page
