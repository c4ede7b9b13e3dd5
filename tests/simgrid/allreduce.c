/* Times allreduces of several sizes and prints "ranks bytes seconds" for each.
 *
 * usage: allreduce BYTES [BYTES ...]
 *
 * Run under smpirun: all ranks share one buffer, since the sums are not looked at, and time is simulated. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

/* The largest value of all ranks, on rank 0. */
static double slowest(double own)
{
    double all = 0;
    /* No allreduce: simulating a second ring would double the cost. */
    MPI_Reduce(&own, &all, 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
    return all;
}

int main(int argc, char **argv)
{
    int rank, ranks;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    for (int i = 1; i < argc; i++) {
        size_t bytes = strtoul(argv[i], NULL, 10);
        float *gradients = SMPI_SHARED_MALLOC(bytes);
        float *sums = SMPI_SHARED_MALLOC(bytes);
        MPI_Barrier(MPI_COMM_WORLD);
        double begin = MPI_Wtime();
        MPI_Allreduce(gradients, sums, (int)(bytes / sizeof(float)), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
        double seconds = slowest(MPI_Wtime() - begin);
        if (rank == 0)
            printf("%d %zu %.9f\n", ranks, bytes, seconds);
        SMPI_SHARED_FREE(sums);
        SMPI_SHARED_FREE(gradients);
    }
    MPI_Finalize();
    return 0;
}
