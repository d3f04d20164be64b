/** `slipway aliases …`: names that point to one version of a model. */
import { type Alias, AliasSchema } from '@slipway/proto/slipway/registry/v1/model'
import { Code, Failure } from '@slipway/rpc'
import { allPages, type Command, type Invocation, showList, showMessage } from '../invocation.ts'
import { momentText, parseMoment } from '../moment.ts'
import { aliasName, shortName, versionName } from '../resource-name.ts'
import { fields } from '../terminal.ts'

const alias = { name: 'alias', doc: 'the alias, such as flights@champion' }
const reason = { value: 'TEXT', doc: 'why, for the history' }
const etag = { value: 'ETAG', doc: 'move it only if it is still as you saw it; without: as it is now' }

/** Commands about aliases. */
export const aliasCommands: readonly Command[] = [
  {
    name: 'aliases get',
    summary: 'where an alias points, now or at a time',
    arguments: [alias],
    options: { at: { value: 'TIME', doc: 'such as 2001-05-14T09:30Z, or -90m' } },
    run: getAlias,
  },
  {
    name: 'aliases set',
    summary: 'point an alias to a version whose gate passed',
    arguments: [alias, { name: 'version', doc: 'the version, such as flights/3' }],
    options: { reason, etag },
    run: setAlias,
  },
  { name: 'aliases history', summary: 'every move of an alias, newest first', arguments: [alias], run: listHistory },
  {
    name: 'aliases rollback',
    summary: 'point an alias back to the version before its last move',
    arguments: [alias],
    options: { reason, etag },
    run: rollbackAlias,
  },
  {
    name: 'aliases delete',
    summary: 'remove an alias; its history stays',
    arguments: [alias],
    options: { etag },
    run: deleteAlias,
  },
]

async function getAlias(invocation: Invocation): Promise<void> {
  const { slipway, words } = invocation
  const name = aliasName(words.text('alias'))
  const at = words.optional('at')
  const found =
    at === undefined
      ? await slipway.registry.getAlias({ name })
      : await slipway.registry.getAliasAt({ name, time: parseMoment('--at', at, new Date()) })
  showMessage(invocation, AliasSchema, found, describeAlias)
}

async function setAlias(invocation: Invocation): Promise<void> {
  const { slipway, words } = invocation
  const name = aliasName(words.text('alias'))
  const moved = await slipway.registry.setAlias({
    name,
    version: versionName(words.text('version')),
    etag: words.optional('etag') ?? (await currentEtag(invocation, name)),
    reason: words.optional('reason') ?? '',
  })
  showMessage(invocation, AliasSchema, moved, describeAlias)
}

async function rollbackAlias(invocation: Invocation): Promise<void> {
  const { slipway, words } = invocation
  const name = aliasName(words.text('alias'))
  const moved = await slipway.registry.rollbackAlias({
    name,
    etag: words.optional('etag') ?? (await currentEtag(invocation, name)),
    reason: words.optional('reason') ?? '',
  })
  showMessage(invocation, AliasSchema, moved, describeAlias)
}

async function deleteAlias(invocation: Invocation): Promise<void> {
  const { slipway, words } = invocation
  const name = aliasName(words.text('alias'))
  const wanted = words.optional('etag') ?? (await currentEtag(invocation, name))
  showMessage(invocation, AliasSchema, await slipway.registry.deleteAlias({ name, etag: wanted }), describeAlias)
}

async function listHistory(invocation: Invocation): Promise<void> {
  const { slipway, words } = invocation
  const name = aliasName(words.text('alias'))
  const moves = await allPages(
    (pageToken) => slipway.registry.listAliasHistory({ name, pageToken }),
    (page) => page.moves,
  )
  showList(invocation, AliasSchema, moves, {
    header: ['move', 'time', 'version', 'by', 'reason'],
    row: (move) => [
      String(move.generation),
      momentText(move.updateTime),
      shortName(move.version) || '(removed)',
      move.actor,
      move.reason,
    ],
  })
}

/** The etag of an alias that exists, or the empty one, which stands for "only if there is none". */
async function currentEtag({ slipway }: Invocation, name: string): Promise<string> {
  try {
    return (await slipway.registry.getAlias({ name })).etag
  } catch (error) {
    if (error instanceof Failure && error.code === Code.NOT_FOUND) return ''
    throw error
  }
}

function describeAlias(found: Alias): string {
  return fields([
    ['alias', shortName(found.name)],
    ['version', shortName(found.version) || '(removed)'],
    ['digest', found.digest],
    ['moved', `${momentText(found.updateTime)} by ${found.actor || 'unknown'}, move ${found.generation}`],
    ['reason', found.reason],
    ['etag', found.etag],
  ])
}
