package rpcpeer

import "github.com/hashicorp/go-plugin"

// Arguments and replies of Test, whose names are those of its methods.

// DivideArgs are the operands of Divide.
type DivideArgs struct{ A, B int }

// DivideReply is the reply of Divide.
type DivideReply struct {
	Quotient int
	Error    *plugin.BasicError
}

// FailInsideReply is the reply of FailInside.
type FailInsideReply struct{ Err error }

// PrintArgs says what to print, and how often.
type PrintArgs struct {
	Stdout, Stderr []byte
	Repeat         int
}

// LogArgs is an entry of the log.
type LogArgs struct {
	Level, Message string
	Fields         map[string]string
}

// Info is what a process tells about itself.
type Info struct {
	Pid, Goroutines, Descriptors int
}

// CallBackArgs says what to call back with.
type CallBackArgs struct {
	ID      uint32
	Payload []byte
}

// DescendArgs says whom to call next, and how many calls are left.
type DescendArgs struct {
	ID    uint32
	Depth int
}

// WriteArgs says what to write to, and how much.
type WriteArgs struct {
	ID   uint32
	Size int
}

// Digest sums up a stream of bytes.
type Digest struct {
	Size   int
	SHA256 string // In hexadecimal digits.
}
