/* Compact WY of a batch of tiny frames, as in householder.py, with sums in double precision.

   Q = E D + H M,  T^{-1} M = -H_top^T D,  T^{-1} = striu(S) + diag(S) / 2,  S = H^T H,  D the signs.
   Arrays are contiguous: h, q, grad and out (batch, d, r), signs (batch, r), t_inverse and m (batch, r, r). Of t_inverse
   the upper triangle alone is written and read. */

#ifdef _WIN32
#define PUBLIC __declspec(dllexport)
#else
#define PUBLIC
#endif

PUBLIC void frames(long batch, long d, long r, const float *h, const float *signs, float *q, float *t_inverse, float *m)
{
    for (long b = 0; b < batch; b++, h += d * r, q += d * r, signs += r, t_inverse += r * r, m += r * r) {
        for (long i = 0; i < r; i++)
            for (long j = i; j < r; j++) {
                double sum = 0;
                for (long k = 0; k < d; k++)
                    sum += (double)h[k * r + i] * h[k * r + j];
                t_inverse[i * r + j] = (float)(i == j ? sum / 2 : sum);
            }
        for (long i = r - 1; i >= 0; i--)
            for (long j = 0; j < r; j++) {
                double sum = -(double)signs[j] * h[j * r + i];
                for (long k = i + 1; k < r; k++)
                    sum -= (double)t_inverse[i * r + k] * m[k * r + j];
                m[i * r + j] = (float)(sum / t_inverse[i * r + i]);
            }
        for (long k = 0; k < d; k++)
            for (long j = 0; j < r; j++) {
                double sum = k == j ? signs[j] : 0;
                for (long i = 0; i < r; i++)
                    sum += (double)h[k * r + i] * m[i * r + j];
                q[k * r + j] = (float)sum;
            }
    }
}

/* The gradient of h, from that of q; top and gram (r, r) are room to compute in. */
PUBLIC void gradient(long batch, long d, long r, const float *h, const float *signs, const float *t_inverse,
                     const float *m, const float *grad, float *out, double *top, double *gram)
{
    for (long b = 0; b < batch;
         b++, h += d * r, grad += d * r, out += d * r, signs += r, t_inverse += r * r, m += r * r) {
        for (long i = 0; i < r; i++)
            for (long j = 0; j < r; j++) {
                double sum = 0;
                for (long k = 0; k < d; k++)
                    sum += (double)h[k * r + i] * grad[k * r + j];
                sum *= signs[j];
                for (long k = 0; k < i; k++)
                    sum -= t_inverse[k * r + i] * top[k * r + j];
                top[i * r + j] = sum / t_inverse[i * r + i];
            }
        for (long i = 0; i < r; i++)
            for (long j = i; j < r; j++) {
                double sum = 0;
                for (long k = 0; k < r; k++)
                    sum += top[i * r + k] * signs[k] * m[j * r + k];
                gram[i * r + j] = gram[j * r + i] = sum;
            }
        for (long k = 0; k < d; k++)
            for (long i = 0; i < r; i++) {
                double sum = k < r ? -top[i * r + k] : 0;
                for (long j = 0; j < r; j++)
                    sum += (double)grad[k * r + j] * m[i * r + j] - h[k * r + j] * gram[j * r + i];
                out[k * r + i] = (float)sum;
            }
    }
}
