"""One path against the other: accuracy over ranks and learning rates, conditioning, gradients, drift in float32."""
