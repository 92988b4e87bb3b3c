// Package calendar divides time into the hours, days, weeks, months, quarters and years of a time zone. It is arithmetic
// over the transitions of the zone: no clock, and no file of the machine. Times are milliseconds since the epoch, periods
// are [start, end) and follow each other without a gap, so every time lies in exactly one of them and a period is named by
// its start.
//
// Non-obvious, and the cause of wrong periods when forgotten:
//
//   - A day begins at the first instant whose local date is that day or a later one. So a day on which the clocks skip
//     midnight begins at the transition, a day that the zone skips altogether does not exist, and a day whose first minute
//     comes twice begins the first time: what the clock shows after it was put back belongs to the day that has begun.
//   - Weeks (from Monday), months, quarters and years are unions of days.
//   - An hour begins whenever the clock shows a full hour, and where the clock skips one. A day on which the clocks are put
//     back an hour has 25 of them. Clocks that are put back by half an hour make one hour longer, and put forward one shorter.
//   - Zones come from the copy of the IANA database beside this file, never from the machine: two workers must agree, and a
//     window must not change its bounds when a machine is updated. DataHash belongs to whatever depends on a zone.
package calendar
