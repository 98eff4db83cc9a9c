// A container's program for the benchmark: sleeps until it is killed.
	.globl _start
_start:
#if defined(__x86_64__)
	xor %edi, %edi
	xor %esi, %esi
	xor %edx, %edx
	xor %r10d, %r10d
	xor %r8d, %r8d
	mov $271, %eax // ppoll(2) of nothing, for ever
	syscall
	jmp _start
#elif defined(__aarch64__)
	mov x0, #0
	mov x1, #0
	mov x2, #0
	mov x3, #0
	mov x4, #0
	mov x8, #73 // ppoll(2) of nothing, for ever
	svc #0
	b _start
#else
#error "no start code for this processor"
#endif
	.section .note.GNU-stack,"",%progbits
