// Package secure runs Millrace against servers that demand every kind of login, and against Redis servers that fail over: Kafka
// with SASL over TLS and with client certificates, Redis with ACL users and client certificates, Temporal behind TLS and an API
// key, Sentinel, and a Redis Cluster whose slots move. The programs are those that users run, and they are told where the
// servers are as users tell them.
//
// Kafka and Redis are the real servers. Temporal's development server knows neither TLS nor logins, so a gateway of this package
// stands before it and demands them.
package secure
