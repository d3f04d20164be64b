/**
 * Consumer groups of an embedded bus, in SQL; called like the log, inside the worker's transactions.
 *
 * 1. A partition has at most one lease a group. Only the member that holds it commits a position, so a member that
 *    was replaced cannot move it. A lease that ran out stays its member's until another takes it.
 * 2. A member that is alive holds at most its share, which is the group's partitions over its members, rounded up,
 *    besides a partition that it is handling.
 */
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import type { StartPosition } from './bus.ts'
import type { EventLog, Partition } from './embedded-log.ts'

/** A subscription as the file knows it. */
export interface Member {
  readonly group: string
  readonly id: string
  readonly leaseMs: number
  /** Its group is its own, and ends with it. */
  readonly isTemporary: boolean
  readonly topics: readonly string[]
}

/** A partition that a member holds and where it goes on reading. */
export interface Claim {
  readonly partition: Partition
  readonly nextOffset: number
}

/** Membership, leases and positions of all groups. */
export interface EventGroups {
  /** Fixes the start of a group where it has none, and makes the member known. */
  join(member: Member, from: StartPosition, nowMs: number): void
  /** Renews the member and its leases, gives back what exceeds its share, takes what is free; returns what it holds. */
  claim(member: Member, busyPartitionId: number | undefined, nowMs: number): Claim[]
  /** Moves the position; false when the member no longer holds the partition. */
  commit(member: Member, partitionId: number, nextOffset: number): boolean
  /** Gives everything back. */
  leave(member: Member): void
  /** The group's position in a partition. */
  positionOf(group: string, partitionId: number): number
}

/** Binds the groups to an open file. */
export function createEventGroups(database: DatabaseSync, log: EventLog): EventGroups {
  const statements = prepare(database)

  const partitionsOf = (member: Member): Partition[] => member.topics.flatMap((topic) => log.partitionsOf(topic))

  const positionOf = (group: string, partitionId: number): number =>
    Number(statements.position.get(group, partitionId)?.next_offset ?? 0)

  function join(member: Member, from: StartPosition, nowMs: number): void {
    for (const partition of partitionsOf(member)) {
      if (statements.position.get(member.group, partition.id) === undefined) {
        statements.start.run(member.group, partition.id, log.startOf(partition, from))
      }
      statements.renewMember.run(member.group, member.id, partition.id, nowMs + member.leaseMs)
    }
  }

  function claim(member: Member, busyPartitionId: number | undefined, nowMs: number): Claim[] {
    const { group, id } = member
    const expiresMs = nowMs + member.leaseMs
    const partitions = partitionsOf(member)
    for (const partition of partitions) statements.renewMember.run(group, id, partition.id, expiresMs)
    statements.forgetMembers.run(group, nowMs)
    let room = shareOf(member, partitions)
    const held: Partition[] = []
    const free: Partition[] = []
    for (const partition of busyFirst(partitions, busyPartitionId)) {
      const lease = statements.lease.get(group, partition.id)
      if (lease?.member === id) held.push(partition)
      else if (lease === undefined || Number(lease.expires_ms) <= nowMs) free.push(partition)
    }
    const claimed: Partition[] = []
    for (const partition of [...held, ...free]) {
      if (room > 0 || partition.id === busyPartitionId) {
        if (partition.id === busyPartitionId && !held.includes(partition)) continue
        statements.takeLease.run(group, partition.id, id, expiresMs)
        claimed.push(partition)
        room -= 1
      } else if (held.includes(partition)) statements.dropLease.run(group, partition.id, id)
    }
    return claimed.map((partition) => ({ partition, nextOffset: positionOf(group, partition.id) }))
  }

  /** How many partitions a member may hold: for each, a fair part among those that read it. */
  function shareOf(member: Member, partitions: readonly Partition[]): number {
    let share = 0
    for (const partition of partitions) share += 1 / Number(statements.readers.get(member.group, partition.id)?.count)
    return Math.ceil(share - 1e-9)
  }

  function commit(member: Member, partitionId: number, nextOffset: number): boolean {
    const lease = statements.lease.get(member.group, partitionId)
    if (lease?.member !== member.id) return false
    statements.commit.run(nextOffset, member.group, partitionId)
    return true
  }

  function leave(member: Member): void {
    statements.leaveMember.run(member.group, member.id)
    statements.leaveLeases.run(member.group, member.id)
    if (member.isTemporary) statements.forgetPositions.run(member.group)
  }

  return { join, claim, commit, leave, positionOf }
}

function busyFirst(partitions: readonly Partition[], busyPartitionId: number | undefined): Partition[] {
  return partitions.toSorted((a, b) => Number(b.id === busyPartitionId) - Number(a.id === busyPartitionId))
}

function prepare(database: DatabaseSync) {
  return {
    position: database.prepare('SELECT next_offset FROM positions WHERE group_name = ? AND partition_id = ?'),
    start: database.prepare('INSERT INTO positions (group_name, partition_id, next_offset) VALUES (?, ?, ?)'),
    commit: database.prepare('UPDATE positions SET next_offset = ? WHERE group_name = ? AND partition_id = ?'),
    renewMember: database.prepare('INSERT OR REPLACE INTO members VALUES (?, ?, ?, ?)'),
    forgetMembers: database.prepare('DELETE FROM members WHERE group_name = ? AND expires_ms <= ?'),
    readers: database.prepare('SELECT count(*) AS count FROM members WHERE group_name = ? AND partition_id = ?'),
    lease: database.prepare('SELECT member, expires_ms FROM leases WHERE group_name = ? AND partition_id = ?'),
    takeLease: database.prepare('INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?)'),
    dropLease: database.prepare('DELETE FROM leases WHERE group_name = ? AND partition_id = ? AND member = ?'),
    leaveMember: database.prepare('DELETE FROM members WHERE group_name = ? AND member = ?'),
    leaveLeases: database.prepare('DELETE FROM leases WHERE group_name = ? AND member = ?'),
    forgetPositions: database.prepare('DELETE FROM positions WHERE group_name = ?'),
  } satisfies Record<string, StatementSync>
}
