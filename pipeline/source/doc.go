// Package source is everything Millrace reads from and appends to Kafka: the settings, the queries
// about topics and offsets, the lane's own reader, the consumer-group membership that decides who
// owns which lane, the producers of side records and of `millrace feed`, and the transactional producer
// that closing publishes with. It is built on sarama alone.
package source
