// Package objecttest is for tests of and over object stores: the conformance suite that every driver passes (Run), a strict store in
// memory with faults to inject (Memory), and a real S3 server on this machine (StartS3).
package objecttest
