// Package dev runs the servers a pipeline needs, for people who have none: an in-process Kafka, an in-process Redis and
// Temporal's own development server as a child process. Everything listens on loopback only and keeps its state under
// one directory. It is meant for a laptop, for tests and for `millrace dev`, never for production.
package dev
